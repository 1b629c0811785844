package serial

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/pkg/twin"
)

// profiled parses a device of a profile with one property for each visitor.
func profiled(t *testing.T, profile string, config keys, types map[string]twin.Type, visitors map[string]keys) *Declaration {
	t.Helper()
	if config == nil {
		config = keys{}
	}
	config["url"], config["profile"] = "serial:///dev/ttyUSB0", profile
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "x"}, Protocol: Protocol, Config: config}
	for name, visitor := range visitors {
		typ := types[name]
		if typ == "" {
			typ = twin.TypeDouble
		}
		writable := name == "command" || name == "tare set"
		d.Properties = append(d.Properties, twin.Property{Name: name, Type: typ, Writable: writable, Visitor: visitor})
	}
	decl, problems := Parse(&d)
	require.Empty(t, problems)
	return decl
}

// named are visitors of fields that properties have the names of.
func named(fields ...string) map[string]keys {
	visitors := map[string]keys{}
	for _, f := range fields {
		visitors[f] = keys{"field": f}
	}
	return visitors
}

func (d *Declaration) fieldOf(t *testing.T, property string) *Field {
	t.Helper()
	for i := range d.Fields {
		if d.Fields[i].Property == property {
			return &d.Fields[i]
		}
	}
	require.Fail(t, "no such property", property)
	return nil
}

// requestOf returns the request that brings a property.
func (d *Declaration) requestOf(t *testing.T, property string) *Request {
	t.Helper()
	i := d.fieldOf(t, property).Request
	require.GreaterOrEqual(t, i, 0)
	return &d.Requests[i]
}

// outcome is what becomes of an answer: a refusal, or values and qualities of properties.
type outcome struct {
	refused string
	not     bool // it is no answer
	values  map[string]string
}

func shown(v twin.Value, q twin.Quality) string {
	if q.IsBad() {
		return string(q)
	}
	return v.Text()
}

func TestSICS(t *testing.T) {
	decl := profiled(t, "sics", nil,
		map[string]twin.Type{"unit": twin.TypeString, "stable": twin.TypeBoolean, "tareUnit": twin.TypeString, "model": twin.TypeString, "serialNumber": twin.TypeString, "firmware": twin.TypeString, "command": twin.TypeString},
		named("weight", "unit", "stable", "tare", "tareUnit", "model", "serialNumber", "firmware", "command"))
	require.Equal(t, 9600, decl.Config.Endpoint.Settings.Baud)
	for property, sent := range map[string]string{"weight": "SI\r\n", "tare": "TA\r\n", "model": "I2\r\n", "firmware": "I3\r\n", "serialNumber": "I4\r\n"} {
		require.Equal(t, sent, string(decl.requestOf(t, property).Send), property)
	}
	// Written after the formats of the METTLER TOLEDO MT-SICS Reference Manual, levels 0 and 1; not recorded.
	for name, test := range map[string]struct {
		asked, answer string
		want          outcome
	}{
		"stable":              {"weight", "S S     100.00 g", outcome{values: map[string]string{"weight": "100", "unit": "g", "stable": "true"}}},
		"in motion":           {"weight", "S D     129.07 kg", outcome{values: map[string]string{"weight": "129.07", "unit": "kg", "stable": "false"}}},
		"negative":            {"weight", "S S   -0.0082 g", outcome{values: map[string]string{"weight": "-0.0082", "unit": "g", "stable": "true"}}},
		"busy":                {"weight", "S I", outcome{refused: "busy"}},
		"overload":            {"weight", "S +", outcome{refused: "overload"}},
		"underload":           {"weight", "S -", outcome{refused: "underload"}},
		"error of the cell":   {"weight", "S S      Error 10b", outcome{refused: "error"}},
		"syntax":              {"weight", "ES", outcome{refused: "syntax"}},
		"transmission":        {"weight", "ET", outcome{refused: "transmission"}},
		"logical":             {"weight", "EL", outcome{refused: "logical"}},
		"another's answer":    {"weight", `I4 A "B021002593"`, outcome{not: true}},
		"tare":                {"tare", "TA A     100.00 g", outcome{values: map[string]string{"tare": "100", "tareUnit": "g"}}},
		"tare, busy":          {"tare", "TA I", outcome{refused: "busy"}},
		"tare is no weight":   {"tare", "S S     100.00 g", outcome{not: true}},
		"model":               {"model", `I2 A "XP204 Excellence 220.0090 g"`, outcome{values: map[string]string{"model": "XP204 Excellence 220.0090 g"}}},
		"firmware":            {"firmware", `I3 A "2.10 10.28.0.493.142"`, outcome{values: map[string]string{"firmware": "2.10 10.28.0.493.142"}}},
		"serial number":       {"serialNumber", `I4 A "B021002593"`, outcome{values: map[string]string{"serialNumber": "B021002593"}}},
		"no number":           {"serialNumber", "I4 I", outcome{refused: "busy"}},
		"garbled":             {"weight", "S S     1OO.00 g", outcome{values: map[string]string{"weight": "bad:missing", "unit": "bad:missing", "stable": "true"}}},
		"not executable, TAC": {"model", "I2 L", outcome{refused: "logical"}},
	} {
		t.Run(name, func(t *testing.T) {
			decl.check(t, test.asked, test.answer+"\r\n", test.want)
		})
	}
}

// check scans an answer to the request of a property, and compares what becomes of it.
func (d *Declaration) check(t *testing.T, asked, answer string, want outcome) {
	t.Helper()
	m := frameOf(t, &d.Config, answer)
	answers, why := d.requestOf(t, asked).Reply.Is(m.Data)
	require.Equal(t, want.not, !answers)
	require.Equal(t, want.refused, why)
	for property, value := range want.values {
		require.Equal(t, value, shown(d.fieldOf(t, property).Answer(m)), property)
	}
}

func TestSICSIsSet(t *testing.T) {
	decl := profiled(t, "sics", keys{"values": keys{"unit": "kg"}}, map[string]twin.Type{"command": twin.TypeString}, map[string]keys{"tare set": {"field": "tare"}, "command": {"field": "command"}})
	r, held, err := decl.fieldOf(t, "tare set").Command(&decl.Config, twin.FloatValue(12.5))
	require.NoError(t, err)
	require.Equal(t, "TA 12.5 kg\r\n", string(r.Send))
	require.Equal(t, twin.FloatValue(12.5), held)
	for answer, want := range map[string]outcome{"TA A      12.50 kg": {}, "TA I": {refused: "busy"}, "TA L": {refused: "range"}, "S S 1 g": {not: true}} {
		answers, why := r.Reply.Is([]byte(answer))
		require.Equal(t, want, outcome{refused: why, not: !answers}, answer)
	}
	command := decl.fieldOf(t, "command")
	require.True(t, command.Assume())
	for value, sent := range map[string]string{"none": "SI", "zero": "Z", "zero-now": "ZI", "tare": "T", "tare-now": "TI", "clear-tare": "TAC"} {
		r, held, err := command.Command(&decl.Config, twin.StringValue(value))
		require.NoError(t, err)
		require.Equal(t, sent+"\r\n", string(r.Send))
		require.Equal(t, twin.StringValue(value), held)
		require.Equal(t, 10*time.Second, r.Timeout)
	}
	for answer, want := range map[string]outcome{
		"Z A": {}, "ZI D": {}, "ZI S": {}, "T S     100.00 g": {}, "TI D     117.57 g": {}, "TAC A": {}, "S S     100.00 g": {},
		"Z I": {refused: "busy"}, "Z +": {refused: "overload"}, "T -": {refused: "underload"}, "TI L": {refused: "logical"}, "ES": {refused: "syntax"},
		`I4 A "B021002593"`: {not: true},
	} {
		r, _, err := command.Command(&decl.Config, twin.StringValue("zero"))
		require.NoError(t, err)
		answers, why := r.Reply.Is([]byte(answer))
		require.Equal(t, want, outcome{refused: why, not: !answers}, answer)
	}
	_, _, err = command.Command(&decl.Config, twin.StringValue("@"))
	require.Error(t, err)
}

// heard scans what a device says by itself, and returns what each property shows; a property that no frame has is not in it.
func (d *Declaration) heard(t *testing.T, raw string) map[string]string {
	t.Helper()
	got := map[string]string{}
	s := framing.NewScanner(d.Config.Framing)
	s.Push([]byte(raw), time.Unix(1, 0))
	for {
		f, ok := s.Next()
		if !ok {
			return got
		}
		m, err := d.Config.message(f)
		if err != nil {
			continue
		}
		for i := range d.Fields {
			f := &d.Fields[i]
			if v, q, has := f.Read(m); has {
				got[f.Property] = shown(v, q)
			}
		}
	}
}

func TestSICSStream(t *testing.T) {
	types := map[string]twin.Type{"stream.unit": twin.TypeString, "stream.stable": twin.TypeBoolean}
	decl := profiled(t, "sics", keys{"init": []any{keys{"send": "SIR", "reply": keys{"match": "^S [-+SDI]"}}}}, types, named("stream.weight", "stream.unit", "stream.stable"))
	require.Equal(t, "SIR\r\n", string(decl.Config.Init[0].Send))
	for raw, want := range map[string]map[string]string{
		"S D     129.07 g\r\nS S     129.10 g\r\n": {"stream.weight": "129.1", "stream.unit": "g", "stream.stable": "true"},
		"S S      Error 10b\r\n":                   {"stream.weight": "bad:error"},
		"S +\r\n":                                  {"stream.weight": "bad:overload"},
		"S -\r\n":                                  {"stream.weight": "bad:underload"},
		"S I\r\n":                                  {"stream.weight": "bad:busy"},
		"I4 A \"B021002593\"\r\n":                  {},
		"    129.07 g\r\nTA A 1\r\n":               {}, // the first line was cut
	} {
		require.Equal(t, want, decl.heard(t, raw), raw)
	}
}

func TestToledo(t *testing.T) {
	types := map[string]twin.Type{"net": twin.TypeBoolean, "motion": twin.TypeBoolean, "unit": twin.TypeString}
	fields := named("weight", "tare", "net", "motion", "unit")
	fields["stableWeight"] = keys{"field": "weight", "bad": keys{"motion": `^.[\x28-\x2f\x38-\x3f\x68-\x6f\x78-\x7f]`}}
	delete(fields, "weight")
	const good = "\x02,1   1184    50\r" // tables 6-9 to 6-11 of the WILDCAT Technical Manual: two decimals, net, kg
	weight := map[string]string{"stableWeight": "11.84", "tare": "0.5", "net": "true", "motion": "false", "unit": "kg"}
	decl := profiled(t, "toledo", nil, types, fields)
	moving := map[string]string{"stableWeight": "bad:motion", "tare": "0.5", "net": "true", "motion": "true", "unit": "kg"}
	for name, test := range map[string]struct {
		raw  string
		want map[string]string
	}{
		"whole":             {good, weight},
		"in motion":         {"\x02,9   1184    50\r", moving},
		"cut at the front":  {good[7:] + good, weight},
		"cut off":           {good[:9] + good, weight},
		"checksum unasked":  {good + "\x7e" + good, weight},
		"STX as a checksum": {good + "\x02" + good, weight},
		"half":              {good[:9], map[string]string{}},
		"a damaged digit":   {"\x02,1   1!84    50\r", map[string]string{}},
		"out of range":      {"\x02,4   1184    50\r", map[string]string{"stableWeight": "bad:over-range", "tare": "0.5", "net": "false", "motion": "false", "unit": "kg"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, decl.heard(t, test.raw)) })
	}
	sum := byte(0)
	for _, c := range []byte(good) {
		sum += c
	}
	sealed := good + string(rune(-sum&0x7F))
	decl = profiled(t, "toledo", keys{"framing": keys{"after": 1}}, types, fields)
	require.Equal(t, weight, decl.heard(t, sealed))
	require.Equal(t, weight, decl.heard(t, sealed[5:]+sealed+sealed))
	require.Empty(t, decl.heard(t, good+"\x05"), "a wrong checksum")
	require.Empty(t, decl.heard(t, good+good+good), "the checksum that was declared does not come")
}

func TestSCPI(t *testing.T) {
	config := keys{"requests": keys{"voltage": keys{"send": "MEAS:VOLT:DC?"}, "both": keys{"send": "MEAS:VOLT?;CURR?"}}}
	visitors := named("manufacturer", "model", "serialNumber", "firmware", "errorCode", "error")
	visitors["voltage"] = keys{"request": "voltage", "column": 0}
	types := map[string]twin.Type{"errorCode": twin.TypeInt}
	for _, name := range []string{"manufacturer", "model", "serialNumber", "firmware", "error"} {
		types[name] = twin.TypeString
	}
	decl := profiled(t, "scpi", config, types, visitors)
	require.Equal(t, "*IDN?\n", string(decl.requestOf(t, "model").Send))
	require.Equal(t, "SYST:ERR?\n", string(decl.requestOf(t, "error").Send))
	for name, test := range map[string]struct {
		asked, answer string
		want          outcome
	}{
		// Written after the formats of IEEE 488.2 (*IDN?) and SCPI 1999.0 (SYSTem:ERRor, infinity and NAN); not recorded.
		"number":              {"voltage", "+1.23450000E+01", outcome{values: map[string]string{"voltage": "12.345"}}},
		"overload":            {"voltage", "+9.90000000E+37", outcome{values: map[string]string{"voltage": "bad:sentinel"}}},
		"negative overload":   {"voltage", "-9.90000000E+37", outcome{values: map[string]string{"voltage": "bad:sentinel"}}},
		"no number":           {"voltage", "9.91E37", outcome{values: map[string]string{"voltage": "bad:sentinel"}}},
		"beside the sentinel": {"voltage", "9.9E36", outcome{values: map[string]string{"voltage": "99" + strings.Repeat("0", 35)}}},
		"carriage return":     {"voltage", "-0.5\r", outcome{values: map[string]string{"voltage": "-0.5"}}},
		"identification": {"model", "HEWLETT-PACKARD,34401A,0,11-5-2", outcome{values: map[string]string{
			"manufacturer": "HEWLETT-PACKARD", "model": "34401A", "serialNumber": "0", "firmware": "11-5-2",
		}}},
		"a number is none":     {"model", "+1.23450000E+01", outcome{not: true}},
		"no error":             {"error", `+0,"No error"`, outcome{values: map[string]string{"errorCode": "0", "error": "No error"}}},
		"an error":             {"error", `-113,"Undefined header"`, outcome{values: map[string]string{"errorCode": "-113", "error": "Undefined header"}}},
		"a number is no error": {"error", "+1.23450000E+01", outcome{not: true}},
	} {
		t.Run(name, func(t *testing.T) { decl.check(t, test.asked, test.answer+"\n", test.want) })
	}
}

func TestBoards(t *testing.T) {
	// Lines such as sketches print.
	decl := profiled(t, "keyvalue", nil, map[string]twin.Type{"door": twin.TypeBoolean, "count": twin.TypeInt}, map[string]keys{
		"temperature": {"name": "TEMP"}, "humidity": {"name": "HUM"}, "door": {"name": "DOOR"}, "count": {"name": "COUNT"},
	})
	require.Equal(t, 115200, decl.Config.Endpoint.Settings.Baud)
	for raw, want := range map[string]map[string]string{
		"TEMP=20.5 HUM=40 DOOR=on COUNT=7\r\n": {"temperature": "20.5", "humidity": "40", "door": "true", "count": "7"},
		"TEMP:-3.25,HUM:99\n":                  {"temperature": "-3.25", "humidity": "99"},
		"TEMP=nan HUM=ovf\n":                   {"temperature": "bad:nan", "humidity": "bad:number"},
		"COUNT=7.5 DOOR=open\n":                {"count": "bad:fraction", "door": "bad:bool"},
		"starting...\n":                        {},
		"TEMP=20.5":                            {}, // no line yet
	} {
		require.Equal(t, want, decl.heard(t, raw), raw)
	}
	begins := keys{"equals": keys{"0": "TH"}}
	decl = profiled(t, "csv", nil, map[string]twin.Type{"count": twin.TypeInt}, map[string]keys{
		"temperature": {"column": 1, "when": begins}, "humidity": {"column": 2, "when": begins}, "count": {"column": 3, "when": begins},
	})
	for raw, want := range map[string]map[string]string{
		"TH,20.5,40,7\r\nXY,1,2,3\n":   {"temperature": "20.5", "humidity": "40", "count": "7"},
		"TH, 20.5 ,40\n":               {"temperature": "20.5", "humidity": "40"},
		"H,20.5,40,7\nTH,,x,7\n":       {"temperature": "bad:number", "humidity": "bad:number", "count": "7"},
		"temperature,humidity,count\n": {},
	} {
		require.Equal(t, want, decl.heard(t, raw), raw)
	}
}
