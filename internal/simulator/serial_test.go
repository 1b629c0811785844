package simulator_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/internal/simulator"
	"github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// keys are of a configData.
type keys = map[string]any

// patience bounds what a test waits for.
const patience = 20 * time.Second

// cycle is how often the simulated instruments speak by themselves.
const cycle = 20 * time.Millisecond

func instrument(name, url string, config keys, properties ...twin.Property) twin.Device {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "serial", Config: keys{"url": url}, Properties: properties}
	for key, v := range config {
		d.Config[key] = v
	}
	return d
}

func property(name string, t twin.Type, visitor keys) twin.Property {
	return twin.Property{Name: name, Type: t, CollectCycle: cycle, Visitor: visitor}
}

func writable(name string, t twin.Type, visitor keys) twin.Property {
	p := property(name, t, visitor)
	p.Writable = true
	return p
}

// tty returns the URL of a line that the simulator is to make.
func tty(t *testing.T, query string) string {
	return "serial://" + filepath.Join(t.TempDir(), "line") + query
}

// board is the instrument of the manual: questions and answers in text.
func board(name, url, address string) twin.Device {
	setpoint := writable("setpoint", twin.TypeDouble, keys{"request": "status", "regex": `SP=([-+0-9.]+)`, "write": keys{
		"send": "#${address}SP=${value:%.1f}", "reply": keys{"match": "^${address} OK", "refused": keys{"range": "^${address} ERR"}},
	}})
	setpoint.Minimum, setpoint.Maximum = twin.FloatValue(5), twin.FloatValue(90)
	return instrument(name, url, keys{
		"values": keys{"address": address},
		"requests": keys{"status": keys{"send": "#${address}?", "reply": keys{
			"match": "^${address} ", "refused": keys{"busy": "^${address} BUSY"},
		}}},
	}, property("temperature", twin.TypeDouble, keys{"request": "status", "regex": `T=([-+0-9.]+)`}), setpoint)
}

// scripted returns a script of one device.
func scripted(d twin.Device, script simulator.DeviceScript) simulator.Script {
	return simulator.Script{Devices: map[string]simulator.DeviceScript{d.ID.String(): script}}
}

// open serves a device by the mapper's driver.
func open(t *testing.T, driver *serial.Driver, d twin.Device) mapper.Conn {
	t.Helper()
	conn, problems := driver.Open(d)
	require.Empty(t, problems)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// shows reads until the properties are what they are to be.
func shows(t *testing.T, conn mapper.Conn, want map[string]twin.Value) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	names, got := []string{}, map[string]twin.Value{}
	for name := range want {
		names = append(names, name)
	}
	for {
		readings, err := conn.Read(ctx, names)
		require.NoError(t, ctx.Err(), "have %v, want %v: %v", got, want, err)
		same := true
		for _, r := range readings {
			if r.Quality != mapper.NothingNew {
				got[r.Property] = r.Value
			}
		}
		for name, v := range want {
			same = same && got[name].Equal(v)
		}
		if same {
			return
		}
	}
}

// set sets what an instrument shows.
func set(t *testing.T, s *simulator.Simulator, d twin.Device, values map[string]twin.Value) {
	t.Helper()
	for name, v := range values {
		require.True(t, s.Instrument(d.ID).Set(name, v), name)
	}
}

func TestABoardIsReadAndSet(t *testing.T) {
	for _, name := range []string{"terminal", "network"} {
		t.Run(name, func(t *testing.T) {
			url := tty(t, "?baud=9600")
			if name == "network" {
				url = "tcp://" + freeAddress(t)
			}
			one, two := board("one", url, "05"), board("two", url, "06")
			s := start(t, simulator.Script{}, one, two)
			set(t, s, one, map[string]twin.Value{"temperature": twin.FloatValue(-20.0625), "setpoint": twin.FloatValue(21)})
			set(t, s, two, map[string]twin.Value{"temperature": twin.FloatValue(1e6)})
			driver := serial.New()
			first, second := open(t, driver, one), open(t, driver, two)
			shows(t, first, map[string]twin.Value{"temperature": twin.FloatValue(-20.0625), "setpoint": twin.FloatValue(21)})
			shows(t, second, map[string]twin.Value{"temperature": twin.FloatValue(1e6), "setpoint": twin.FloatValue(5)})

			held, err := first.Write(t.Context(), "setpoint", twin.FloatValue(42.5))
			require.NoError(t, err)
			require.Equal(t, twin.FloatValue(42.5), held)
			shows(t, first, map[string]twin.Value{"setpoint": twin.FloatValue(42.5)})
			v, ok := s.Instrument(one.ID).Get("setpoint")
			require.True(t, ok)
			require.Equal(t, twin.FloatValue(42.5), v)

			_, err = first.Write(t.Context(), "setpoint", twin.FloatValue(90.5)) // the mapper itself would not let it through
			var fault *mapper.Fault
			require.True(t, errors.As(err, &fault), err)
			require.True(t, fault.Refuse)
			require.Equal(t, "range", fault.Why)
			shows(t, first, map[string]twin.Value{"setpoint": twin.FloatValue(42.5)})
			require.GreaterOrEqual(t, s.Instrument(one.ID).Requests(), uint64(5))
			require.Equal(t, []string{"serial " + map[string]string{"network": url, "terminal": strings.TrimSuffix(strings.TrimPrefix(url, "serial://"), "?baud=9600")}[name] + " (2 devices)"}, s.Endpoints())
		})
	}
}

// flowmeter is an instrument that answers bytes: 02, address, length of all, …, CRC.
func flowmeter(url string) twin.Device {
	return instrument("binary", url, keys{
		"framing": keys{"kind": "length", "start": `\x02`, "offset": 2, "max": 32},
		"check":   keys{"kind": "crc-16/modbus", "order": "little"},
		"requests": keys{
			"state": keys{"sendHex": "02 07 07 10 01 00 00", "reply": keys{"prefix": `\x02\x07`, "match": `(?s)^...\x10`, "refused": keys{"busy": `(?s)^\x02\x07.\x7f`}}},
		},
	},
		property("level", twin.TypeInt, keys{"request": "state", "at": 4, "type": "int16"}),
		property("flow", twin.TypeFloat, keys{"request": "state", "at": 6, "type": "float32", "order": "little"}),
		property("alarm", twin.TypeBoolean, keys{"request": "state", "at": 10, "type": "bool", "bit": 3}),
		property("door", twin.TypeBoolean, keys{"request": "state", "at": 10, "type": "bool", "bit": 0}),
		writable("limit", twin.TypeInt, keys{"request": "state", "at": 11, "type": "uint16", "write": keys{
			"sendHex": "02 07 09 20 01 ${value} 00 00", "reply": keys{"match": `(?s)^\x02\x07.\x20`},
		}}),
	)
}

func TestBytesAreReadAndSet(t *testing.T) {
	d := flowmeter(tty(t, "?baud=19200"))
	s := start(t, simulator.Script{}, d)
	want := map[string]twin.Value{"level": twin.IntValue(-2), "flow": twin.FloatValue(1.5), "alarm": twin.BoolValue(true), "door": twin.BoolValue(false), "limit": twin.IntValue(0x0A0D)}
	set(t, s, d, want)
	conn := open(t, serial.New(), d)
	shows(t, conn, want)
	_, err := conn.Write(t.Context(), "limit", twin.IntValue(0xFE02))
	require.NoError(t, err)
	want["limit"] = twin.IntValue(0xFE02)
	shows(t, conn, want)
}

func TestInstrumentsSpeak(t *testing.T) {
	number, text := twin.FloatValue(20.375), twin.StringValue("idle")
	for name, test := range map[string]struct {
		config     keys
		properties []twin.Property
		want       map[string]twin.Value
	}{
		"columns": {nil, []twin.Property{
			property("a", twin.TypeDouble, keys{"column": 1}), property("b", twin.TypeInt, keys{"column": 4}), property("c", twin.TypeString, keys{"column": 2}),
		}, map[string]twin.Value{"a": number, "b": twin.IntValue(-7), "c": text}},
		"columns of two sorts": {nil, []twin.Property{
			property("a", twin.TypeDouble, keys{"when": keys{"equals": keys{"0": "TH"}}, "column": 1}),
			property("b", twin.TypeDouble, keys{"when": keys{"prefix": "P,"}, "column": 1}),
		}, map[string]twin.Value{"a": number, "b": twin.FloatValue(1013)}},
		"columns by spaces": {nil, []twin.Property{property("a", twin.TypeDouble, keys{"column": 3, "separator": " "})}, map[string]twin.Value{"a": number}},
		"names": {nil, []twin.Property{
			property("a", twin.TypeDouble, keys{"name": "TEMP"}), property("c", twin.TypeString, keys{"name": "mode"}),
		}, map[string]twin.Value{"a": number, "c": text}},
		"JSON": {nil, []twin.Property{
			property("a", twin.TypeDouble, keys{"pointer": "/sensors/1/t"}), property("b", twin.TypeBoolean, keys{"pointer": "/on"}), property("c", twin.TypeString, keys{"pointer": "/sensors/0/mo~1de"}),
		}, map[string]twin.Value{"a": number, "b": twin.BoolValue(true), "c": text}},
		"patterns": {nil, []twin.Property{
			property("a", twin.TypeDouble, keys{"regex": `^\s*[A-Z]{2}\d: T=(?P<t>[+-]\d+\.\d{3}) H=(\d+)`, "group": "t"}),
			property("b", twin.TypeInt, keys{"regex": `^\s*[A-Z]{2}\d: T=(?P<t>[+-]\d+\.\d{3}) H=(\d+)`, "group": "2"}),
		}, map[string]twin.Value{"a": number, "b": twin.IntValue(55)}},
		"patterns in lines of their own": {nil, []twin.Property{
			property("a", twin.TypeDouble, keys{"regex": `^T (\S+)$`}), property("b", twin.TypeInt, keys{"regex": `^H (\d{4})$`}),
		}, map[string]twin.Value{"a": number, "b": twin.IntValue(55)}},
		"text in places, with a check": {keys{"framing": keys{"kind": "between", "start": `\x02`, "end": `\x03`}, "check": keys{"kind": "sum8", "encoding": "hex"}}, []twin.Property{
			property("a", twin.TypeDouble, keys{"at": 2, "length": 8}), property("c", twin.TypeString, keys{"at": 10, "length": 6}),
		}, map[string]twin.Value{"a": number, "c": text}},
		"bytes of fixed size": {keys{"framing": keys{"kind": "fixed", "size": 8, "start": `\xAA`}, "check": keys{"kind": "crc-8/smbus"}}, []twin.Property{
			property("b", twin.TypeInt, keys{"at": 1, "type": "uint32"}), property("d", twin.TypeInt, keys{"at": -3, "type": "uint16"}),
		}, map[string]twin.Value{"b": twin.IntValue(0xAAAA5A5A), "d": twin.IntValue(65535)}},
		"bytes between silences": {keys{"framing": keys{"kind": "silence", "gap": "5ms"}, "check": keys{"kind": "crc-16/modbus", "order": "little"}}, []twin.Property{
			property("b", twin.TypeInt, keys{"at": 1, "type": "uint32"}),
		}, map[string]twin.Value{"b": twin.IntValue(77)}},
		"bytes in SLIP": {keys{"framing": keys{"kind": "delimiter", "delimiter": `\xC0`, "escape": "slip"}}, []twin.Property{
			property("b", twin.TypeInt, keys{"at": 0, "type": "uint16"}),
		}, map[string]twin.Value{"b": twin.IntValue(0xC0DB)}},
	} {
		t.Run(name, func(t *testing.T) {
			d := instrument("speaker", "tcp://"+freeAddress(t), test.config, test.properties...)
			s := start(t, simulator.Script{}, d)
			set(t, s, d, test.want)
			shows(t, open(t, serial.New(), d), test.want)
		})
	}
}

func TestProfiles(t *testing.T) {
	for name, test := range map[string]struct {
		config     keys
		properties []twin.Property
		want       map[string]twin.Value
	}{
		"nmea": {keys{"profile": "nmea"}, []twin.Property{
			property("speed", twin.TypeDouble, keys{"field": "RMC.speed"}), property("latitude", twin.TypeDouble, keys{"field": "RMC.latitude"}),
			property("longitude", twin.TypeDouble, keys{"field": "GGA.longitude"}), property("altitude", twin.TypeDouble, keys{"field": "GGA.altitude"}),
			property("fix", twin.TypeString, keys{"field": "GGA.fixQuality"}), property("variation", twin.TypeDouble, keys{"field": "RMC.variation"}),
			property("track", twin.TypeDouble, keys{"field": "VTG.trueTrack"}), property("glat", twin.TypeDouble, keys{"field": "GLL.latitude"}),
			property("zone", twin.TypeInt, keys{"field": "ZDA.offsetHours"}), property("meters", twin.TypeDouble, keys{"field": "DBT.depthMeters"}),
			property("depth", twin.TypeDouble, keys{"field": "DPT.depth"}), property("heading", twin.TypeDouble, keys{"field": "HDT.heading"}),
			property("water", twin.TypeDouble, keys{"field": "MTW.temperature"}),
			property("apparent", twin.TypeDouble, keys{"field": "MWV.windSpeed", "when": keys{"equals": keys{"MWV.reference": "R"}}}),
			property("true", twin.TypeDouble, keys{"field": "MWV.windSpeed", "when": keys{"equals": keys{"MWV.reference": "T"}}}),
		}, map[string]twin.Value{
			"speed": twin.FloatValue(7.25), "latitude": twin.FloatValue(-33.85678901), "longitude": twin.FloatValue(151.00000001), "altitude": twin.FloatValue(-3.5),
			"fix": twin.StringValue("2"), "variation": twin.FloatValue(-2.5), "track": twin.FloatValue(359.9), "glat": twin.FloatValue(0.5),
			"zone": twin.IntValue(2), "meters": twin.FloatValue(12.5), "depth": twin.FloatValue(3.25), "heading": twin.FloatValue(180), "water": twin.FloatValue(-1.25),
			"apparent": twin.FloatValue(11.5), "true": twin.FloatValue(9),
		}},
		"dsmr": {keys{"profile": "dsmr"}, []twin.Property{
			property("energy", twin.TypeDouble, keys{"field": "1-0:1.8.1"}), property("power", twin.TypeDouble, keys{"field": "1-0:1.7.0", "scale": 1000}),
			property("gas", twin.TypeDouble, keys{"field": "0-1:24.2.1"}), property("message", twin.TypeString, keys{"field": "0-0:96.13.0"}),
		}, map[string]twin.Value{"energy": twin.FloatValue(123456.789), "power": twin.FloatValue(1193), "gas": twin.FloatValue(12785.123), "message": twin.StringValue("hello (you)")}},
		"sml": {keys{"profile": "sml"}, []twin.Property{
			property("energy", twin.TypeDouble, keys{"field": "1-0:1.8.0"}), property("power", twin.TypeInt, keys{"field": "1-0:16.7.0"}),
			property("marks", twin.TypeInt, keys{"field": "1-0:2.8.0"}), property("old", twin.TypeDouble, keys{"field": "1-0:1.8.0*96"}), property("maker", twin.TypeString, keys{"field": "129-129:199.130.3"}),
		}, map[string]twin.Value{
			"energy": twin.FloatValue(14798112.9), "power": twin.IntValue(-250), "marks": twin.IntValue(0x1b1b1b1b1b1b1b1b), "old": twin.FloatValue(0.001),
			"maker": twin.StringValue("a maker with a name of more than fifteen letters"),
		}},
		"sml of a meter": {keys{"profile": "sml", "sender": "1EMH0012345678"}, []twin.Property{property("power", twin.TypeInt, keys{"field": "1-0:16.7.0"})}, map[string]twin.Value{"power": twin.IntValue(9)}},
		"toledo": {keys{"profile": "toledo"}, []twin.Property{
			property("weight", twin.TypeDouble, keys{"field": "weight"}), property("tare", twin.TypeDouble, keys{"field": "tare"}),
			property("unit", twin.TypeString, keys{"field": "unit"}), property("motion", twin.TypeBoolean, keys{"field": "motion"}),
		}, map[string]twin.Value{"weight": twin.FloatValue(-12.5), "tare": twin.FloatValue(0.25), "unit": twin.StringValue("t"), "motion": twin.BoolValue(true)}},
		"toledo with a checksum": {keys{"profile": "toledo", "framing": keys{"after": 1}}, []twin.Property{property("weight", twin.TypeInt, keys{"field": "weight"})}, map[string]twin.Value{"weight": twin.IntValue(999999)}},
		"sics": {keys{"profile": "sics"}, []twin.Property{
			property("weight", twin.TypeDouble, keys{"field": "weight"}), property("unit", twin.TypeString, keys{"field": "unit"}), property("stable", twin.TypeBoolean, keys{"field": "stable"}),
			property("model", twin.TypeString, keys{"field": "model"}), writable("tare", twin.TypeDouble, keys{"field": "tare"}),
		}, map[string]twin.Value{
			"weight": twin.FloatValue(-0.125), "unit": twin.StringValue("mg"), "stable": twin.BoolValue(true), "model": twin.StringValue("XPR 205"), "tare": twin.FloatValue(12),
		}},
		"sics that speaks": {keys{"profile": "sics"}, []twin.Property{
			property("weight", twin.TypeDouble, keys{"field": "stream.weight"}), property("unit", twin.TypeString, keys{"field": "stream.unit"}),
		}, map[string]twin.Value{"weight": twin.FloatValue(100.5), "unit": twin.StringValue("kg")}},
		"scpi": {keys{"profile": "scpi", "requests": keys{"measure": keys{"send": "MEAS:VOLT?", "reply": keys{"match": `^[-+0-9.E]+$`}}}}, []twin.Property{
			property("volts", twin.TypeDouble, keys{"request": "measure", "regex": "^([-+0-9.E]+)$"}), property("model", twin.TypeString, keys{"field": "model"}), property("maker", twin.TypeString, keys{"field": "manufacturer"}),
			property("code", twin.TypeInt, keys{"field": "errorCode"}), property("error", twin.TypeString, keys{"field": "error"}),
		}, map[string]twin.Value{
			"volts": twin.FloatValue(1.000001), "model": twin.StringValue("34461A"), "maker": twin.StringValue("Keysight"), "code": twin.IntValue(-113), "error": twin.StringValue("Undefined header"),
		}},
		"iec62056, mode c": {keys{"profile": "iec62056", "meter": keys{"address": "00012"}}, []twin.Property{
			property("energy", twin.TypeDouble, keys{"field": "1.8.0"}), property("number", twin.TypeString, keys{"field": "0.0.0"}),
		}, map[string]twin.Value{"energy": twin.FloatValue(1234.5), "number": twin.StringValue("00012")}},
		"iec62056, mode a": {keys{"profile": "iec62056", "meter": keys{"mode": "a"}}, []twin.Property{property("energy", twin.TypeDouble, keys{"field": "1.8.0"})}, map[string]twin.Value{"energy": twin.FloatValue(1234.5)}},
		"iec62056, mode d": {keys{"profile": "iec62056", "meter": keys{"mode": "d"}}, []twin.Property{property("energy", twin.TypeDouble, keys{"field": "1.8.0"})}, map[string]twin.Value{"energy": twin.FloatValue(1234.5)}},
	} {
		t.Run(name, func(t *testing.T) {
			d := instrument("meter", tty(t, ""), test.config, test.properties...)
			s := start(t, simulator.Script{}, d)
			set(t, s, d, test.want)
			shows(t, open(t, serial.New(), d), test.want)
		})
	}
}

func TestAScriptSaysWhatIsSaid(t *testing.T) {
	d := board("board", "tcp://"+freeAddress(t), "05")
	d.Properties = append(d.Properties, property("fan", twin.TypeInt, keys{"regex": `^EVENT ${address} fan (\d+)`}))
	s := start(t, scripted(d, simulator.DeviceScript{
		Replies: map[string]string{"status": "${address} T=${temperature:%.1f} SP=${setpoint}", "write setpoint": "${address} OK done"},
		Stream:  []simulator.StreamFrame{{Every: simulator.Duration(cycle), Send: `EVENT ${address} fan ${fan:%05d}\r\n`, Raw: true}},
	}), d)
	set(t, s, d, map[string]twin.Value{"temperature": twin.FloatValue(20.04), "fan": twin.IntValue(12)})
	conn := open(t, serial.New(), d)
	shows(t, conn, map[string]twin.Value{"temperature": twin.FloatValue(20), "setpoint": twin.FloatValue(5), "fan": twin.IntValue(12)})
	_, err := conn.Write(t.Context(), "setpoint", twin.FloatValue(30))
	require.NoError(t, err)
}

func TestSerialMistakesAreNamed(t *testing.T) {
	odd := instrument("odd", "tcp://127.0.0.1:5021", keys{"requests": keys{"r": keys{"send": "R", "reply": keys{"match": "^A$"}}}},
		property("x", twin.TypeInt, keys{"request": "r", "name": "X"}))
	far := board("far", "rfc2217://127.0.0.1:5022", "01")
	modeB := instrument("b", "tcp://127.0.0.1:5023", keys{"profile": "iec62056", "meter": keys{"mode": "b"}}, property("x", twin.TypeInt, keys{"field": "1.8.0"}))
	gsv := instrument("gsv", "tcp://127.0.0.1:5024", keys{"profile": "nmea"}, property("x", twin.TypeInt, keys{"field": "GSV.numberSVsInView"}))
	common := instrument("common", "tcp://127.0.0.1:5025", nil, property("x", twin.TypeInt, keys{"when": keys{"prefix": "A,"}, "column": 1}), property("y", twin.TypeInt, keys{"column": 1}))
	good := board("good", "tcp://127.0.0.1:5026", "01")
	silent := instrument("silent", "tcp://127.0.0.1:5027", nil, property("x", twin.TypeInt, keys{"column": 1}))
	_, problems := simulator.New([]twin.Device{odd, far, modeB, gsv, common, good, silent}, simulator.Script{Devices: map[string]simulator.DeviceScript{
		"default/good": {
			Properties: map[string]simulator.Wave{"nothing": {Wave: "sine"}},
			Replies:    map[string]string{"status": "T=${temperature}", "reset": "x", "write setpoint": "${nobody}"},
			Faults:     []simulator.Fault{{Do: simulator.WrongUnit}, {Do: simulator.Exception}},
		},
		"default/silent": {Faults: []simulator.Fault{{Do: simulator.Exception}}, Stream: []simulator.StreamFrame{{Send: `\q`}, {Send: "x,${x}y"}}},
	}}, slog.New(slog.DiscardHandler))
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	for i, want := range []string{
		"requests.r: ", "the scheme rfc2217 cannot be simulated", "a meter of mode b", "sentences of type GSV",
		"it is read in the frame of x too", "properties.nothing", "replies.reset: the device has no such request", "${nobody} is no property",
		"requests.status: it is not what reply takes", "wrong-unit is Modbus's", `\q`, "x is bad:number in it", "no answer of the device is called refused",
	} {
		require.Greater(t, len(texts), i, texts)
		require.Contains(t, texts[i], want)
	}
	require.Len(t, texts, 13, strings.Join(texts, "\n"))
	require.Contains(t, texts[0], "replies: {r: …}")
}

func TestFaultsOfInstrumentsGiveNoWrongValues(t *testing.T) {
	short := simulator.Duration(10 * time.Millisecond)
	for _, fault := range []simulator.Fault{
		{Do: simulator.Late, Delay: simulator.Duration(200 * time.Millisecond)},
		{Do: simulator.Split, Delay: short},
		{Do: simulator.Drop},
		{Do: simulator.Corrupt},
		{Do: simulator.Exception},
		{Do: simulator.Hang, Delay: simulator.Duration(200 * time.Millisecond)},
		{Do: simulator.Close},
		{Do: simulator.Noise},
		{Do: simulator.Truncate},
	} {
		for name, device := range map[string]func(url string) twin.Device{"bytes": flowmeter, "text": func(url string) twin.Device {
			d := board("board", url, "05")
			d.Config["check"] = keys{"kind": "crc-16/arc", "encoding": "hex"}
			d.Properties[1].Name = "level"
			return d
		}} {
			t.Run(fault.Do+" in "+name, func(t *testing.T) {
				t.Parallel()
				fault := fault
				d := device("tcp://" + freeAddress(t))
				d.Config["timeout"], d.Config["retries"], d.Config["recovery"] = "100ms", 0, "250ms"
				fault.Every, fault.After, fault.Times = 2, 1, 3
				s := start(t, scripted(d, simulator.DeviceScript{Faults: []simulator.Fault{fault}}), d)
				conn := open(t, serial.New(), d)
				good := 0
				for round := int64(10); round < 90 && (good < 5 || s.Instrument(d.ID).Requests() < 8); round++ {
					want := twin.IntValue(round)
					if d.Properties[1].Type == twin.TypeDouble {
						want = twin.FloatValue(float64(round))
					}
					require.True(t, s.Instrument(d.ID).Set("level", want))
					readings, err := conn.Read(t.Context(), []string{"level"})
					if err != nil {
						continue
					}
					if q := readings[0].Quality; q.IsGood() {
						require.True(t, readings[0].Value.Equal(want), "%v, want %v", readings[0].Value, want)
						good++
					} else if fault.Do == simulator.Exception {
						require.Equal(t, twin.Quality("bad:busy"), q)
					}
				}
				require.GreaterOrEqual(t, good, 5)
			})
		}
	}
}

func TestFaultsOfWhatIsSaid(t *testing.T) {
	for _, do := range []string{simulator.Late, simulator.Split, simulator.Drop, simulator.Corrupt, simulator.Hang, simulator.Close, simulator.Noise, simulator.Truncate} {
		t.Run(do, func(t *testing.T) {
			d := instrument("meter", "tcp://"+freeAddress(t), keys{"profile": "dsmr"}, property("power", twin.TypeInt, keys{"field": "1-0:1.7.0"}))
			s := start(t, scripted(d, simulator.DeviceScript{Faults: []simulator.Fault{{Do: do, Every: 2, Delay: simulator.Duration(5 * time.Millisecond)}}}), d)
			conn := open(t, serial.New(), d)
			for _, v := range []int64{1, 200, 3} {
				set(t, s, d, map[string]twin.Value{"power": twin.IntValue(v)})
				shows(t, conn, map[string]twin.Value{"power": twin.IntValue(v)})
			}
		})
	}
}

func TestALineRepeatsWhatIsSent(t *testing.T) {
	d := board("board", tty(t, ""), "05")
	d.Config["echo"] = true
	s := start(t, simulator.Script{}, d)
	set(t, s, d, map[string]twin.Value{"temperature": twin.FloatValue(3)})
	shows(t, open(t, serial.New(), d), map[string]twin.Value{"temperature": twin.FloatValue(3)})
}

func TestWhatOpensAConversationIsAnswered(t *testing.T) {
	d := board("board", tty(t, ""), "05")
	d.Config["init"] = []any{keys{"send": `\x1b`, "raw": true, "reply": keys{"none": true}}, keys{"send": "REMOTE", "reply": keys{"prefix": "REM OK"}}}
	s := start(t, simulator.Script{}, d)
	shows(t, open(t, serial.New(), d), map[string]twin.Value{"setpoint": twin.FloatValue(5)})
	require.Equal(t, uint64(3), s.Instrument(d.ID).Requests())
}

func TestNobodyGetsWhatWasTrueLongAgo(t *testing.T) {
	d := instrument("speaker", tty(t, ""), nil, property("count", twin.TypeInt, keys{"name": "COUNT"}))
	s := start(t, simulator.Script{}, d)
	set(t, s, d, map[string]twin.Value{"count": twin.IntValue(1)})
	require.Empty(t, s.Err())
	set(t, s, d, map[string]twin.Value{"count": twin.IntValue(2)})
	shows(t, open(t, serial.New(), d), map[string]twin.Value{"count": twin.IntValue(2)})
}

func TestALineHasRoomForSomeClients(t *testing.T) {
	const room = 8
	address := freeAddress(t)
	d := instrument("speaker", "tcp://"+address, nil, property("x", twin.TypeInt, keys{"name": "X"}))
	start(t, simulator.Script{}, d)
	for n := range room + 1 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = conn.Read(make([]byte, 1))
		if n < room {
			require.NoError(t, err, "client %d hears what is said", n)
		} else {
			require.Error(t, err)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is closed")
		}
	}
}

func TestSerialLinesKeepTheServiceContract(t *testing.T) {
	speaker := instrument("speaker", "tcp://"+freeAddress(t), nil, property("x", twin.TypeDouble, keys{"name": "X"}))
	s, problems := simulator.New([]twin.Device{board("a", tty(t, ""), "1"), board("b", "tcp://"+freeAddress(t), "1"), speaker}, simulator.Script{}, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	servicetest.Stress(t, s)
}
