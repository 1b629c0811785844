package serial

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/twin"
)

// rendered parses a device with one request, r, that brings its properties.
func rendered(t testing.TB, config keys, properties ...twin.Property) *Declaration {
	t.Helper()
	d := twin.Device{Config: keys{"url": "tcp://host:1"}, Properties: properties}
	for key, v := range config {
		d.Config[key] = v
	}
	decl, problems := Parse(&d)
	require.Empty(t, problems)
	return decl
}

func TestRender(t *testing.T) {
	asked := func(reply keys) keys { return keys{"requests": keys{"r": keys{"send": "R", "reply": reply}}} }
	for name, test := range map[string]struct {
		typ             twin.Type
		config, visitor keys
		value           twin.Value
		want            string // the payload
	}{
		"reply before the value":         {twin.TypeDouble, asked(keys{"match": `^05 `}), keys{"regex": `T=([-+0-9.]+)`}, twin.FloatValue(20.5), "05 T=20.5"},
		"reply within the pattern":       {twin.TypeDouble, asked(keys{"match": `^05 T`}), keys{"regex": `^05 T=([-+0-9.]+)C$`}, twin.FloatValue(-3), "05 T=-3C"},
		"prefix and match":               {twin.TypeInt, asked(keys{"prefix": "A5", "match": `^..:`}), keys{"regex": `:(\d+)`}, twin.IntValue(7), "A5:7"},
		"decimals that it wants":         {twin.TypeDouble, asked(nil), keys{"regex": `^(\d+\.\d{2}) kg`}, twin.FloatValue(3), "3.00 kg"},
		"fewer decimals than it has":     {twin.TypeDouble, asked(nil), keys{"regex": `^(\d+\.\d) kg`}, twin.FloatValue(3.14159), "3.1 kg"},
		"sign and width":                 {twin.TypeInt, asked(nil), keys{"regex": `^([+-]\d{6})$`}, twin.IntValue(42), "+000042"},
		"negative, with width":           {twin.TypeInt, asked(nil), keys{"regex": `^([+-]\d{6})$`}, twin.IntValue(-42), "-000042"},
		"scale":                          {twin.TypeDouble, asked(nil), keys{"regex": `^(\d+)$`, "scale": 0.1}, twin.FloatValue(20.5), "205"},
		"one of two":                     {twin.TypeString, asked(nil), keys{"regex": `^MODE (eco|boost);`}, twin.StringValue("boost"), "MODE boost;"},
		"an optional part with a value":  {twin.TypeInt, asked(nil), keys{"regex": `^A(?:x(\d))?B*`}, twin.IntValue(4), "Ax4"},
		"words for yes":                  {twin.TypeBoolean, asked(nil), keys{"regex": `^PUMP (ON|OFF)`}, twin.BoolValue(true), "PUMP ON"},
		"name":                           {twin.TypeDouble, asked(keys{"prefix": "OK "}), keys{"name": "T"}, twin.FloatValue(1.25), "OK T=1.25"},
		"column":                         {twin.TypeInt, asked(keys{"prefix": "TH,"}), keys{"column": 3}, twin.IntValue(1), "TH,0,0,1"},
		"column by spaces":               {twin.TypeInt, asked(nil), keys{"column": 1, "separator": " "}, twin.IntValue(1), "0 1"},
		"pointer":                        {twin.TypeString, asked(nil), keys{"pointer": "/a/1/b~1c"}, twin.StringValue("x\"y"), `{"a":{"1":{"b/c":"x\"y"}}}`},
		"text in places":                 {twin.TypeDouble, asked(nil), keys{"at": 2, "length": 6}, twin.FloatValue(1.23456789), "  1.2346"},
		"bytes":                          {twin.TypeInt, asked(nil), keys{"at": 1, "type": "uint16"}, twin.IntValue(0x4142), "\x00AB"},
		"bytes from the end":             {twin.TypeInt, asked(keys{"prefix": "Z"}), keys{"at": -2, "type": "uint16"}, twin.IntValue(0x4142), "ZAB"},
		"when":                           {twin.TypeInt, keys{}, keys{"column": 1, "when": keys{"equals": keys{"0": "A", "2": "C"}}}, twin.IntValue(5), "A,5,C"},
		"when, by name":                  {twin.TypeInt, keys{}, keys{"name": "n", "when": keys{"equals": keys{"id": "7"}}}, twin.IntValue(5), "id=7 n=5"},
		"what is bad would be read":      {twin.TypeInt, asked(nil), keys{"regex": `^.{3}(\d)`, "bad": keys{"motion": "^[^ ]"}}, twin.IntValue(5), "   5"},
		"a delimiter that is in the way": {twin.TypeInt, asked(nil), keys{"at": 0, "type": "uint8"}, twin.IntValue('\n'), ""},
		"a name with spaces":             {twin.TypeString, asked(nil), keys{"name": "N"}, twin.StringValue("a b"), ""},
		"no form of it matches":          {twin.TypeInt, asked(nil), keys{"regex": `^(\d{2})$`}, twin.IntValue(100), ""},
		"no room":                        {twin.TypeInt, asked(nil), keys{"at": 0, "length": 2}, twin.IntValue(100), ""},
		"more than the type holds":       {twin.TypeInt, asked(nil), keys{"at": 0, "type": "uint8"}, twin.IntValue(256), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var reply *Reply
			if len(test.config) > 0 {
				test.visitor["request"] = "r"
			}
			decl := rendered(t, test.config, twin.Property{Name: "p", Type: test.typ, Visitor: test.visitor})
			if len(decl.Requests) > 0 {
				reply = &decl.Requests[0].Reply
			}
			out, err := decl.Config.Render(reply, []Shown{{&decl.Fields[0], test.value}})
			if test.want == "" {
				require.ErrorIs(t, err, ErrRender)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, string(out))
			require.NoError(t, decl.Config.Reads(decl.Config.Frame(out, false), reply, []*Field{&decl.Fields[0]}))
		})
	}
}

func TestYesAndNo(t *testing.T) {
	decl := rendered(t, keys{"requests": keys{
		"any":   keys{"send": "R"},
		"named": keys{"send": "R", "reply": keys{"prefix": "05", "match": "OK$", "refused": keys{"busy": "^BUSY [0-9]{2}$", "range": "^05 ERR"}}},
	}})
	yes, err := decl.Config.Yes(&decl.Requests[0].Reply, []byte("R"))
	require.NoError(t, err)
	require.Equal(t, "OK", string(yes))
	_, err = decl.Config.No(&decl.Requests[0].Reply, "range")
	require.ErrorIs(t, err, ErrRender)
	named := &decl.Requests[1].Reply
	yes, err = decl.Config.Yes(named, nil)
	require.NoError(t, err)
	require.Equal(t, "05OK", string(yes))
	for prefer, want := range map[string]string{"range": "05 ERR", "busy": "BUSY 00", "other": "BUSY 00"} {
		no, err := decl.Config.No(named, prefer)
		require.NoError(t, err)
		require.Equal(t, want, string(no))
	}
}

func TestCommandedIsTheInverseOfCommand(t *testing.T) {
	between := keys{"framing": keys{"kind": "between", "start": `\x02`, "end": `\x03`, "after": 1}, "check": keys{"kind": "xor8"}}
	length := keys{"framing": keys{"kind": "length", "offset": 0}, "check": keys{"kind": "crc-16/modbus", "order": "little"}}
	for name, test := range map[string]struct {
		typ             twin.Type
		config, visitor keys
		write           keys
		value           twin.Value
	}{
		"text":             {twin.TypeDouble, nil, keys{"name": "x"}, keys{"send": "SP ${value:%.1f};"}, twin.FloatValue(2.5)},
		"text, no end":     {twin.TypeInt, nil, keys{"name": "x"}, keys{"send": "SP ${value:%05d}"}, twin.IntValue(12)},
		"text, twice":      {twin.TypeInt, nil, keys{"name": "x"}, keys{"send": "A${value}B${value}C"}, twin.IntValue(12)},
		"framed":           {twin.TypeInt, between, keys{"name": "x"}, keys{"send": "A${value}B"}, twin.IntValue(12)},
		"bytes":            {twin.TypeInt, length, keys{"at": 1, "type": "uint16"}, keys{"sendHex": "00 01 ${value} 00 00"}, twin.IntValue(0x0201)},
		"string of bytes":  {twin.TypeString, nil, keys{"regex": "(.*)"}, keys{"send": "N${value}"}, twin.StringValue("pump")},
		"a scale in bytes": {twin.TypeDouble, length, keys{"at": 1, "type": "int16", "scale": 0.5}, keys{"sendHex": "00 ${value} 00 00"}, twin.FloatValue(-1.5)},
	} {
		t.Run(name, func(t *testing.T) {
			test.write["reply"] = keys{"none": true}
			test.visitor["write"] = test.write
			decl := rendered(t, test.config, twin.Property{Name: "x", Type: test.typ, Writable: true, Visitor: test.visitor})
			f := &decl.Fields[0]
			r, held, err := f.Command(&decl.Config, test.value)
			require.NoError(t, err)
			m, err := decl.Config.read(r.Send)
			require.NoError(t, err)
			v, q, is := f.Commanded(&decl.Config, m.Data)
			require.True(t, is)
			require.Empty(t, q)
			require.True(t, v.Equal(held), "%v, not %v", v, held)
			_, _, is = f.Commanded(&decl.Config, m.Data[1:])
			require.False(t, is)
		})
	}
}

func TestAWordingNamesItsProperties(t *testing.T) {
	decl := rendered(t, nil, twin.Property{Name: "t", Type: twin.TypeDouble, Visitor: keys{"name": "T"}})
	w, err := ParseWording(`\x02${address}:${t:%+06.1f}\r`, map[string]string{"address": "05"})
	require.NoError(t, err)
	require.Equal(t, []string{"t"}, w.Names())
	shown := map[string]Shown{"t": {&decl.Fields[0], twin.FloatValue(2.25)}}
	out, err := w.Fill(shown)
	require.NoError(t, err)
	require.Equal(t, "\x0205:+002.2\r", string(out))
	_, err = w.Fill(nil)
	require.ErrorContains(t, err, "${t} is no property")
	_, err = ParseWording(`${t`, nil)
	require.Error(t, err)
}

func FuzzShortest(f *testing.F) {
	for _, pattern := range []string{`^a(b|c)+d{2,}[x-z]?.$`, `(?i)\bT=([-+0-9.]+)\s*C`, `[^a]`, `(?s)^\x02...`, `(a{30}){30}`, `$^`, `[^\x00-\x{10FFFF}]`} {
		f.Add(pattern, "12")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		re, err := regexp.Compile(pattern)
		if err != nil || len(pattern) > maxPattern {
			return
		}
		plain, err := shortest(re, nil, "0A ")
		require.NoError(t, err)
		require.LessOrEqual(t, len(plain), 4*1000*maxPattern)
		for group := range re.NumSubexp() + 1 {
			if sub, err := groupPattern(re, group); err == nil && sub.MatchString(text) {
				_, err = shortest(re, map[int]string{group: text}, "0A ")
				require.NoError(t, err)
			}
		}
	})
}

func FuzzCommanded(f *testing.F) {
	decl := rendered(f, nil, twin.Property{Name: "x", Type: twin.TypeDouble, Writable: true, Visitor: keys{"name": "x", "write": keys{"send": "S${value}E${value};", "reply": keys{"none": true}}}})
	f.Add([]byte("S12E12;"))
	f.Add([]byte("SE;"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		v, q, is := decl.Fields[0].Commanded(&decl.Config, payload)
		require.Equal(t, is && !q.IsBad(), !v.IsZero())
	})
}
