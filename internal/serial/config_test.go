package serial

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/serialport"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type keys = map[string]any

// declare returns a device with one property, p.
func declare(typ twin.Type, config, visitor keys) twin.Device {
	if config["url"] == nil {
		config["url"] = "serial:///dev/ttyUSB0"
	}
	_, writable := visitor["write"]
	return twin.Device{
		ID: twin.DeviceID{Namespace: "default", Name: "x"}, Protocol: Protocol, Config: config,
		Properties: []twin.Property{{Name: "p", Type: typ, Writable: writable, Visitor: visitor}},
	}
}

func parse(t *testing.T, typ twin.Type, config, visitor keys) *Declaration {
	t.Helper()
	d := declare(typ, config, visitor)
	decl, problems := Parse(&d)
	require.Empty(t, problems)
	return decl
}

func TestTablesFitTheirStructs(t *testing.T) {
	require.NoError(t, DeviceTable().Check(&deviceConfig{}))
	require.NoError(t, VisitorTable().Check(&visitorConfig{}))
}

func TestProfilesAreRight(t *testing.T) {
	for _, name := range ProfileNames() {
		t.Run(name, func(t *testing.T) {
			p, err := readProfile(name)
			require.NoError(t, err)
			require.Empty(t, p.usual.Path)
			d := declare(twin.TypeDouble, keys{"profile": name}, keys{"field": "x", "regex": "(x)"})
			if p.decodes {
				d.Properties[0].Visitor = keys{"field": "x"}
			} else {
				d.Properties[0].Visitor = keys{"regex": "(x)"}
			}
			_, problems := Parse(&d)
			require.Empty(t, problems)
		})
	}
}

func TestDefaults(t *testing.T) {
	decl := parse(t, twin.TypeDouble, keys{}, keys{"column": 1})
	c := decl.Config
	require.Equal(t, Endpoint{Scheme: TTY, Settings: serialport.Config{Path: "/dev/ttyUSB0", Baud: 9600, Parity: serialport.None, StopBits: 1, DataBits: 8}}, c.Endpoint)
	require.Equal(t, time.Second, c.Timeout)
	require.Equal(t, time.Second, c.Recovery)
	require.False(t, c.Fixed)
	require.Equal(t, 10*time.Second, c.Silence)
	require.Equal(t, framing.Delimiter, c.Framing.Kind)
	require.Equal(t, "\n", string(c.Framing.Delimiter))
	require.Equal(t, Unasked, decl.Fields[0].Request)
}

func TestURLs(t *testing.T) {
	for text, want := range map[string]string{
		"serial:///dev/ttyUSB0":                                 "serial:///dev/ttyUSB0?baud=9600&parity=none&stop=1&bits=8",
		"serial:///dev/ttyUSB0?baud=300&bits=7&parity=e&stop=2": "serial:///dev/ttyUSB0?baud=300&parity=even&stop=2&bits=7",
		"TCP://Server:4001":                                     "tcp://server:4001",
		"rfc2217://10.0.0.1:4001?baud=4800":                     "rfc2217://10.0.0.1:4001?baud=4800&parity=none&stop=1&bits=8",
	} {
		e, err := ParseURL(text, defaults())
		require.NoError(t, err, text)
		require.Equal(t, want, e.String())
		again, err := ParseURL(e.String(), serialport.Config{})
		require.NoError(t, err)
		require.Equal(t, e, again, "its own text is the same endpoint")
	}
	for text, want := range map[string]string{
		"/dev/ttyUSB0":                    "is not a URL",
		"serial://dev/ttyUSB0":            "three slashes",
		"serial:///":                      "three slashes",
		"serial:///dev/x?baut=9600":       "baut",
		"serial:///dev/x?baud=1":          "baud",
		"serial:///dev/x?parity=mark":     "parity",
		"tcp://host":                      "is not a port",
		"tcp://:4001":                     "no host",
		"tcp://host:4001/x":               "path",
		"tcp://host:4001?baud=9600":       "passes no settings on",
		"tcp://me@host:4001":              "more than",
		"rfc2217://host:4001?rs485=on":    "RS-485",
		"rtu:///dev/ttyUSB0":              "protocolName: modbus",
		"udp://host:1":                    "unknown scheme",
		"serial:///dev/x?baud=96%zz":      "parameters",
		"serial:///dev/x?baud=1&baud=300": "baud",
	} {
		_, err := ParseURL(text, defaults())
		require.ErrorContains(t, err, want, text)
	}
}

func TestRequests(t *testing.T) {
	decl := parse(t, twin.TypeDouble, keys{
		"values":  keys{"address": "05", "n": 7},
		"framing": keys{"kind": "between", "start": `\x02`, "end": `\x03`, "after": 1},
		"check":   keys{"kind": "xor8", "from": 1},
		"requests": keys{
			"read": keys{"send": `R${address}\r${n:%03d}`, "reply": keys{"prefix": "A${address}", "match": `^A${address}=`, "refused": keys{"busy": "^B"}}},
			"raw":  keys{"sendHex": "05 ${address} 0D", "raw": true, "timeout": "3s", "pause": 20},
		},
	}, keys{"request": "read", "regex": "=(.*)"})
	require.Len(t, decl.Requests, 2)
	raw, read := decl.Requests[0], decl.Requests[1]
	require.Equal(t, "\x05\x05\x0D", string(raw.Send))
	require.Equal(t, 3*time.Second, raw.Timeout)
	require.Equal(t, 20*time.Millisecond, raw.Pause)
	xor := byte(0)
	for _, b := range []byte("R05\r007\x03") {
		xor ^= b
	}
	require.Equal(t, "\x02R05\r007\x03"+string(xor), string(read.Send))
	require.True(t, read.Reply.Named)
	for frame, want := range map[string]struct {
		answers bool
		why     string
	}{"A05=1": {true, ""}, "A06=1": {}, "A05:1": {}, "B": {true, "busy"}} {
		answers, why := read.Reply.Is([]byte(frame))
		require.Equal(t, want.answers, answers, frame)
		require.Equal(t, want.why, why, frame)
	}
	require.Equal(t, 1, decl.Fields[0].Request)
}

func TestMistakes(t *testing.T) {
	ask := keys{"q": keys{"send": "?"}}
	for name, test := range map[string]struct {
		config, visitor keys
		typ             twin.Type
		field, says     string
	}{
		"no url":               {config: keys{"url": nil}, visitor: keys{"column": 0}, field: ".url", says: "missing"},
		"wrong url":            {config: keys{"url": "com1"}, visitor: keys{"column": 0}, field: ".url", says: "not a URL"},
		"unknown key":          {config: keys{"bauds": 1}, visitor: keys{"column": 0}, field: ".bauds", says: "unknown"},
		"unknown profile":      {config: keys{"profile": "nmeaa"}, visitor: keys{"column": 0}, field: ".profile", says: "did you mean nmea?"},
		"profile no text":      {config: keys{"profile": 7}, visitor: keys{"column": 0}, field: ".profile", says: "is not a profile"},
		"sender alone":         {config: keys{"sender": "GP"}, visitor: keys{"column": 0}, field: ".sender", says: "no profile that knows"},
		"meter alone":          {config: keys{"meter": keys{"address": "1"}}, visitor: keys{"column": 0}, field: ".meter", says: "iec62056"},
		"frame without end":    {config: keys{"framing": keys{"kind": "between", "start": "a"}}, visitor: keys{"column": 0}, field: ".framing.end", says: ""},
		"frame beyond bound":   {config: keys{"framing": keys{"max": 70000}}, visitor: keys{"column": 0}, field: ".framing.max", says: "out of range"},
		"frame over its max":   {config: keys{"framing": keys{"kind": "fixed", "size": 100, "max": 50}}, visitor: keys{"column": 0}, field: ".framing.", says: ""},
		"unknown check":        {config: keys{"check": keys{"kind": "crc-17"}}, visitor: keys{"column": 0}, field: ".check.kind", says: "not one of"},
		"wrong escape":         {config: keys{"framing": keys{"delimiter": `\q`}}, visitor: keys{"column": 0}, field: ".framing.delimiter", says: "escape"},
		"request without send": {config: keys{"requests": keys{"q": keys{}}}, visitor: keys{"request": "q", "column": 0}, field: ".requests.q.send", says: "missing"},
		"unknown place":        {config: keys{"values": keys{"addr": 1}, "requests": keys{"q": keys{"send": "${adr}"}}}, visitor: keys{"request": "q", "column": 0}, field: ".requests.q.send", says: "did you mean addr?"},
		"wrong reply":          {config: keys{"requests": keys{"q": keys{"send": "?", "reply": keys{"match": "("}}}}, visitor: keys{"request": "q", "column": 0}, field: ".reply.match", says: "RE2"},
		"wrong word":           {config: keys{"requests": keys{"q": keys{"send": "?", "reply": keys{"refused": keys{"Too Big": "x"}}}}}, visitor: keys{"request": "q", "column": 0}, field: ".refused.Too Big", says: "lower-case"},
		"odd digits":           {config: keys{"requests": keys{"q": keys{"sendHex": "0 0 0"}}}, visitor: keys{"request": "q", "column": 0}, field: ".requests.q.sendHex", says: "hexadecimal"},
		"no such request":      {config: keys{"requests": ask}, visitor: keys{"request": "w", "column": 0}, field: "configData.request", says: "there is no request"},
		"no answer":            {config: keys{"requests": keys{"q": keys{"send": "?", "reply": keys{"none": true}}}}, visitor: keys{"request": "q", "column": 0}, field: "configData.request", says: "no answer"},
		"nowhere":              {config: keys{}, visitor: keys{}, field: "visitors.configData", says: "where the value is"},
		"two places":           {config: keys{}, visitor: keys{"column": 0, "regex": "(x)"}, field: "configData.column", says: "beside regex"},
		"no group":             {config: keys{}, visitor: keys{"regex": "T=.*"}, field: "configData.regex", says: "no group"},
		"no such group":        {config: keys{}, visitor: keys{"regex": "T=(.*)", "group": "temp"}, field: "configData.group", says: "no group of"},
		"group too high":       {config: keys{}, visitor: keys{"regex": "T=(.*)", "group": "2"}, field: "configData.group", says: "1 to 1"},
		"stray group":          {config: keys{}, visitor: keys{"column": 1, "group": "2"}, field: "configData.group", says: "beside column"},
		"no pointer":           {config: keys{}, visitor: keys{"pointer": "a/b"}, field: "configData.pointer", says: "RFC 6901"},
		"no field":             {config: keys{}, visitor: keys{"field": "RMC.speed"}, field: "configData.field", says: "name a profile"},
		"no length":            {config: keys{}, visitor: keys{"at": 3}, field: "configData.length", says: "missing"},
		"bool of nine bytes":   {config: keys{}, typ: twin.TypeBoolean, visitor: keys{"at": 3, "type": "bool", "length": 9}, field: "configData.length", says: "at most 8"},
		"binary text":          {config: keys{}, visitor: keys{"column": 3, "type": "uint16"}, field: "configData.type", says: "type of bytes"},
		"fraction in an INT":   {config: keys{}, typ: twin.TypeInt, visitor: keys{"column": 3, "scale": 0.1}, field: "configData.scale", says: "INT"},
		"write without value":  {config: keys{}, visitor: keys{"column": 3, "write": keys{"send": "SP"}}, field: "write.send", says: "no place"},
		"write of another":     {config: keys{}, visitor: keys{"column": 3, "write": keys{"send": "SP${valeu}"}}, field: "write.send", says: "none of the values"},
		"write nothing":        {config: keys{}, visitor: keys{"column": 3, "write": keys{}}, field: "write.send", says: "missing"},
		"write bytes as text":  {config: keys{}, visitor: keys{"at": 3, "type": "uint16", "write": keys{"send": "x${value}"}}, field: "write.send", says: "sendHex"},
		"assume what is read":  {config: keys{}, visitor: keys{"column": 3, "write": keys{"send": "x${value}", "assume": true}}, field: "write.assume", says: "can be read"},
		"wrong format":         {config: keys{}, visitor: keys{"column": 3, "write": keys{"send": "x${value:%q}"}}, field: "write.send", says: "is not a format"},
	} {
		t.Run(name, func(t *testing.T) {
			typ := test.typ
			if typ == "" {
				typ = twin.TypeDouble
			}
			d := declare(typ, test.config, test.visitor)
			if u, given := test.config["url"]; name == "no url" && given {
				require.NotNil(t, u)
				delete(d.Config, "url")
			}
			_, problems := Parse(&d)
			require.NotEmpty(t, problems)
			p := problems[0]
			require.Contains(t, p.Field, test.field)
			require.Contains(t, p.What+"; "+p.Remedy, test.says)
			require.Equal(t, "Device default/x", p.Object)
			require.NotEmpty(t, p.What)
			require.NotEmpty(t, p.Remedy)
		})
	}
}

func TestTwoPropertiesWithOneValueAreRefused(t *testing.T) {
	d := declare(twin.TypeDouble, keys{}, keys{"column": 1})
	d.Properties = append(d.Properties,
		twin.Property{Name: "again", Type: twin.TypeDouble, Visitor: keys{"column": 1}},
		twin.Property{Name: "other", Type: twin.TypeDouble, Visitor: keys{"column": 1, "when": keys{"prefix": "B"}}},
		twin.Property{Name: "bit0", Type: twin.TypeBoolean, Visitor: keys{"at": 1, "type": "bool", "bit": 0}},
		twin.Property{Name: "bit1", Type: twin.TypeBoolean, Visitor: keys{"at": 1, "type": "bool", "bit": 1}})
	decl, problems := Parse(&d)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Error(), "p claims the same value")
	require.Len(t, decl.Fields, 4, "the others are served")
}

func TestADeviceThatSpeaksMustTellItsAnswers(t *testing.T) {
	d := declare(twin.TypeDouble, keys{"requests": keys{"q": keys{"send": "?"}, "w": keys{"send": "!", "reply": keys{"match": "^W"}}}}, keys{"column": 1})
	d.Properties = append(d.Properties,
		twin.Property{Name: "asked", Type: twin.TypeDouble, Visitor: keys{"request": "q", "column": 2}},
		twin.Property{Name: "told", Type: twin.TypeDouble, Visitor: keys{"request": "w", "column": 2}},
		twin.Property{Name: "set", Type: twin.TypeDouble, Writable: true, Visitor: keys{"column": 3, "write": keys{"send": "${value}"}}},
		twin.Property{Name: "sent", Type: twin.TypeDouble, Writable: true, Visitor: keys{"column": 4, "write": keys{"send": "${value}", "reply": keys{"none": true}}}})
	decl, problems := Parse(&d)
	require.Len(t, problems, 2)
	require.Contains(t, problems[0].Field, "requests.q.reply")
	require.Contains(t, problems[1].Field, "spec.properties[set].visitors.configData.write.reply")
	var served []string
	for _, f := range decl.Fields {
		served = append(served, f.Property)
	}
	require.Equal(t, []string{"p", "told", "sent"}, served)
}

func TestAMistakeOfTheDeviceIsSaidOnceAndThoseOfItsPropertiesToo(t *testing.T) {
	d := declare(twin.TypeDouble, keys{"timeout": "9h"}, keys{"colunm": 1})
	decl, problems := Parse(&d)
	require.Nil(t, decl)
	require.Len(t, problems, 2)
}

func TestReadOnlyHasNoWriteAndReadWriteHasOne(t *testing.T) {
	d := declare(twin.TypeDouble, keys{}, keys{"column": 1, "write": keys{"send": "${value}"}})
	d.Properties[0].Writable = false
	_, problems := Parse(&d)
	require.Contains(t, problems[0].Error(), "ReadOnly")
	d = declare(twin.TypeDouble, keys{}, keys{"column": 1})
	d.Properties[0].Writable = true
	_, problems = Parse(&d)
	require.Contains(t, problems[0].Error(), "ReadWrite")
}

func TestTemplates(t *testing.T) {
	for text, want := range map[string]string{
		`a\r\n\t\0\x7f\\\$b`: "a\r\n\t\x00\x7f\\$b",
		"$5 and $":           "$5 and $",
		"ä":                  "ä",
	} {
		b, err := unescapeAll(text)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	for _, text := range []string{`\`, `\q`, `\x`, `\x1`, `\xgg`, "${a", "${}", "${1}", "${a:%}", "${a:%5.5.5f}", "${a:d}", "${a}", strings.Repeat("x", maxSend+1)} {
		_, err := unescapeAll(text)
		require.Error(t, err, text)
	}
	_, err := unescapeAll(strings.Repeat("x", maxSend))
	require.NoError(t, err)
	for _, text := range []string{"0", "0g", "${a", "00 ${9} 00"} {
		_, err := parseHex(text)
		require.Error(t, err, text)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(`SP${value:%+05.2f}\r\n\x02`, "12.5")
	f.Add("02 ${value} 03", "05")
	f.Fuzz(func(t *testing.T, text, value string) {
		for _, read := range []func(string) (template, error){parseTemplate, parseHex} {
			tpl, err := read(text)
			if err != nil {
				continue
			}
			require.LessOrEqual(t, tpl.size(), maxSend)
			values := map[string]string{}
			for _, name := range tpl.names() {
				values[name] = value
			}
			if bound, err := tpl.bind(values, false); err == nil {
				require.Empty(t, bound.names())
				bound.fill(nil)
			}
		}
	})
}

// FuzzParse looks for declarations that neither give a device nor say why.
func FuzzParse(f *testing.F) {
	f.Add(`{"url":"serial:///dev/x","requests":{"q":{"send":"${a}?","reply":{"match":"^${a}"}}},"values":{"a":1}}`, `{"request":"q","regex":"=(.*)","write":{"send":"x${value:%d}"}}`)
	f.Add(`{"url":"tcp://h:1","framing":{"kind":"length","offset":1,"start":"\\x02"},"check":{"kind":"crc-16/modbus","encoding":"hex"}}`, `{"at":1,"type":"uint16","order":"little","bit":3,"enum":{"1":"a"}}`)
	f.Add(`{"url":"rfc2217://h:1","profile":"iec62056","meter":{"mode":"d"},"sender":"x"}`, `{"field":"1.8.0","sentinels":["x"],"scale":0.1}`)
	f.Fuzz(func(t *testing.T, config, visitor string) {
		var c, v keys
		if json.Unmarshal([]byte(config), &c) != nil || json.Unmarshal([]byte(visitor), &v) != nil || c == nil {
			return
		}
		d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "x"}, Protocol: Protocol, Config: c}
		for i, typ := range []twin.Type{twin.TypeDouble, twin.TypeInt, twin.TypeString, twin.TypeBoolean, twin.TypeBytes} {
			d.Properties = append(d.Properties, twin.Property{Name: string(typ), Type: typ, Writable: i%2 == 0, Visitor: v})
		}
		decl, problems := Parse(&d)
		require.True(t, decl != nil || len(problems) > 0)
		for _, p := range problems {
			require.NotEmpty(t, p.Field)
			require.NotEmpty(t, p.What)
			require.NotEmpty(t, p.Remedy)
		}
		if decl == nil {
			return
		}
		require.Empty(t, decl.Config.Framing.Problems())
		for i := range decl.Fields {
			field := &decl.Fields[i]
			m := &Message{Data: []byte("a=1,2;{}")}
			if value, quality, has := field.Read(m); has {
				require.Equal(t, quality.IsBad(), value.IsZero())
				require.True(t, quality.Valid(), quality)
			}
			if field.Writable {
				_, _, _ = field.Command(&decl.Config, twin.IntValue(1))
			}
		}
	})
}
