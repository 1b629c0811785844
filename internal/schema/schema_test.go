package schema

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/twin"
)

type mode string

type write struct {
	Verify bool          `key:"verify"`
	Pause  time.Duration `key:"pause"`
}

type config struct {
	URL       string            `key:"url"`
	Unit      uint8             `key:"unitId"`
	Scale     float64           `key:"scale"`
	Register  mode              `key:"register"`
	Timeout   time.Duration     `key:"timeout"`
	Bit       *int              `key:"bit"`
	Sentinels []twin.Value      `key:"sentinels"`
	Names     map[string]string `key:"enum"`
	Write     write             `key:"write"`
	Extra     *write            `key:"extra"`
}

func testTable() *Table {
	nested := &Table{Title: "Write", Fields: []Field{
		{Key: "verify", Kind: Bool, Default: true, Doc: "Read back."},
		{Key: "pause", Kind: Duration, Required: true, Unit: "ms", Min: time.Duration(0), Max: time.Hour, Doc: "Pause."},
	}}
	return &Table{Title: "Device", Doc: "The device.", Fields: []Field{
		{Key: "url", Kind: String, Required: true, Min: 1, Max: 64, Doc: "Where it is.", Example: "tcp://10.0.0.7:502"},
		{Key: "unitId", Aliases: []string{"slaveID"}, Kind: Int, Default: 1, Min: 0, Max: 247, Doc: "Unit."},
		{Key: "scale", Kind: Float, Default: 1.0, Min: -1e6, Max: 1e6, Doc: "Factor."},
		{Key: "register", Kind: Enum, Enum: []string{"coil", "holding"}, EnumAliases: map[string]string{"holdingregister": "holding"}, Doc: "a | b."},
		{Key: "timeout", Kind: Duration, Default: "1s", Min: time.Millisecond, Max: time.Minute, Doc: "Timeout."},
		{Key: "bit", Kind: Int, Min: 0, Max: 15, Doc: "Bit."},
		{Key: "sentinels", Kind: List, Max: 3, Item: &Field{Kind: Scalar}, Doc: "No value."},
		{Key: "enum", Kind: Map, Item: &Field{Kind: String}, Doc: "Names."},
		{Key: "write", Kind: Nested, Table: nested, Doc: "Writing."},
		{Key: "extra", Kind: Nested, Table: nested, Doc: "More."},
	}}
}

func decode(t *testing.T, text string) (config, []string) {
	t.Helper()
	var data map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&data))
	var c config
	var said []string
	for _, p := range testTable().Decode("Device default/x", "spec.configData", data, &c) {
		require.Equal(t, "Device default/x", p.Object)
		require.NotEmpty(t, p.Remedy)
		said = append(said, p.Field+": "+p.What+"; "+p.Remedy)
	}
	return c, said
}

func TestDefaults(t *testing.T) {
	c, said := decode(t, `{"url":"x"}`)
	require.Empty(t, said)
	require.Equal(t, config{URL: "x", Unit: 1, Scale: 1, Timeout: time.Second, Write: write{Verify: true}}, c)
}

func TestBothWaysOfWriting(t *testing.T) {
	want := config{
		URL: "502", Unit: 17, Scale: 0.1, Register: "holding", Timeout: 250 * time.Millisecond, Bit: new(3),
		Sentinels: []twin.Value{twin.UintValue(math.MaxUint64), twin.StringValue("n/a"), twin.FloatValue(1.5)},
		Names:     map[string]string{"0": "off", "1": "1"},
		Write:     write{Verify: false, Pause: 20 * time.Millisecond}, Extra: &write{Verify: true, Pause: time.Second},
	}
	for _, text := range []string{
		`{"url":502,"unitId":17,"scale":0.1,"register":"HOLDING","timeout":"250ms","bit":3,"sentinels":[18446744073709551615,"n/a",1.5],"enum":{"0":"off","1":1},"write":{"verify":false,"pause":20},"extra":{"pause":"1s"}}`,
		`{"url":"502","slaveID":"0x11","scale":"1e-1","register":"HoldingRegister","timeout":"0.25s","bit":"3.0","sentinels":[18446744073709551615,"n/a",1.5],"enum":{"0":"off","1":"1"},"write":{"verify":"False","pause":"20"},"extra":{"pause":"1000ms"},"x":null}`,
	} {
		c, said := decode(t, strings.Replace(text, `,"x":null`, "", 1))
		require.Empty(t, said)
		require.Equal(t, want, c)
	}
}

func TestMistakes(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"missing":          {`{}`, "spec.configData.url: missing; write a text, such as tcp://10.0.0.7:502"},
		"null is missing":  {`{"url":null}`, "spec.configData.url: missing; write a text, such as tcp://10.0.0.7:502"},
		"unknown":          {`{"url":"x","timeOut":"1s"}`, "spec.configData.timeOut: unknown key; did you mean timeout?"},
		"unknown, odd":     {`{"url":"x","a b":1}`, `spec.configData["a b"]: unknown key; known are url, unitId, scale, register, timeout, bit, sentinels, enum, write, extra, slaveID`},
		"alias and key":    {`{"url":"x","unitId":1,"slaveID":2}`, "spec.configData.slaveID: unitId and slaveID are two spellings of one key; keep one of them, best unitId"},
		"out of range":     {`{"url":"x","slaveID":248}`, "spec.configData.slaveID: 248 is out of range; use 0 to 247"},
		"not an integer":   {`{"url":"x","unitId":"one"}`, `spec.configData.unitId: "one" is not an integer of 64 bits; write an integer, 0 to 247`},
		"a fraction":       {`{"url":"x","unitId":1.5}`, `spec.configData.unitId: "1.5" is not an integer of 64 bits; write an integer, 0 to 247`},
		"beyond 64 bits":   {`{"url":"x","unitId":99999999999999999999}`, `spec.configData.unitId: "99999999999999999999" is not an integer of 64 bits; write an integer, 0 to 247`},
		"infinite":         {`{"url":"x","scale":"inf"}`, `spec.configData.scale: "inf" is not a finite number; write a number, -1000000 to 1000000`},
		"number too large": {`{"url":"x","scale":2e6}`, "spec.configData.scale: 2e+06 is out of range; use -1000000 to 1000000"},
		"bare duration":    {`{"url":"x","timeout":5}`, `spec.configData.timeout: "5" is not a duration; write a number with its unit, such as 500ms, 10s or 1h`},
		"long duration":    {`{"url":"x","timeout":"2m"}`, "spec.configData.timeout: 2m0s is out of range; use 1ms to 1m"},
		"enum":             {`{"url":"x","register":"hold"}`, `spec.configData.register: "hold" is not one of its values; known are coil, holding`},
		"enum, near":       {`{"url":"x","register":"coils"}`, `spec.configData.register: "coils" is not one of its values; did you mean coil?`},
		"map for a text":   {`{"url":{}}`, "spec.configData.url: want a text, not a map; write a text, such as tcp://10.0.0.7:502"},
		"a YAML boolean":   {`{"url":true}`, "spec.configData.url: want a text, not true; write it in quotes: YAML takes on, off, yes, no, true and false for booleans"},
		"text for a map":   {`{"url":"x","enum":"a"}`, `spec.configData.enum: want a map, not the text "a"; write a map`},
		"text for a list":  {`{"url":"x","sentinels":"a"}`, `spec.configData.sentinels: want a list, not the text "a"; write a list`},
		"too many items":   {`{"url":"x","sentinels":[1,2,3,4]}`, "spec.configData.sentinels: it has 4 items; use 0 to 3"},
		"item":             {`{"url":"x","sentinels":[1,[]]}`, "spec.configData.sentinels[1]: want a boolean, a number or a text, not a list; write a boolean, a number or a text"},
		"null item":        {`{"url":"x","sentinels":[null]}`, "spec.configData.sentinels[0]: want a boolean, a number or a text, not nothing; write a boolean, a number or a text"},
		"empty":            {`{"url":""}`, "spec.configData.url: empty; write a text, such as tcp://10.0.0.7:502"},
		"too long":         {`{"url":"` + strings.Repeat("x", 65) + `"}`, "spec.configData.url: it has 65 bytes; use 1 to 64"},
		"nested missing":   {`{"url":"x","write":{}}`, "spec.configData.write.pause: missing; write a duration"},
		"nested unknown":   {`{"url":"x","extra":{"pause":1,"verfy":true}}`, "spec.configData.extra.verfy: unknown key; did you mean verify?"},
		"boolean":          {`{"url":"x","write":{"pause":1,"verify":"yes"}}`, `spec.configData.write.verify: "yes" is not a boolean; write true or false`},
	} {
		t.Run(name, func(t *testing.T) {
			c, said := decode(t, test.text)
			require.Equal(t, []string{test.want}, said)
			require.Equal(t, float64(1), c.Scale, "the others keep their values and defaults")
		})
	}
}

func TestBoundsAreInclusive(t *testing.T) {
	for text, good := range map[string]bool{"0": true, "247": true, "-1": false, "248": false} {
		_, said := decode(t, `{"url":"x","unitId":`+text+`}`)
		require.Equal(t, good, len(said) == 0, text)
	}
	_, said := decode(t, `{"url":"`+strings.Repeat("x", 64)+`","sentinels":[1,2,3],"timeout":"1m"}`)
	require.Empty(t, said)
}

func TestDefaultBoundsOfTextsAndMaps(t *testing.T) {
	text := &Field{Kind: String}
	_, fault := text.scalar(strings.Repeat("x", MaxText))
	require.Nil(t, fault)
	_, fault = text.scalar(strings.Repeat("x", MaxText+1))
	require.NotNil(t, fault)
	list := &Field{Kind: List, Item: text}
	require.Nil(t, list.checkSize(MaxItems, "items", MaxItems))
	require.NotNil(t, list.checkSize(MaxItems+1, "items", MaxItems))
}

func TestCheckFindsWhatDoesNotFit(t *testing.T) {
	require.NoError(t, testTable().Check(&config{}))
	for name, test := range map[string]struct {
		fields []Field
		into   any
	}{
		"not a struct":  {nil, new(int)},
		"no such field": {[]Field{{Key: "a"}}, &struct{}{}},
		"no such key": {nil, &struct {
			A string `key:"a"`
		}{}},
		"wrong type": {[]Field{{Key: "a"}}, &struct {
			A int `key:"a"`
		}{}},
		"too narrow": {[]Field{{Key: "a", Kind: Int, Min: 0, Max: 256}}, &struct {
			A uint8 `key:"a"`
		}{}},
		"may be negative": {[]Field{{Key: "a", Kind: Int, Max: 1}}, &struct {
			A uint `key:"a"`
		}{}},
		"bad default": {[]Field{{Key: "a", Kind: Int, Default: "x"}}, &struct {
			A int `key:"a"`
		}{}},
		"key twice": {[]Field{{Key: "a", Aliases: []string{"a"}}}, &struct {
			A string `key:"a"`
		}{}},
		"list of nothing": {[]Field{{Key: "a", Kind: List}}, &struct {
			A []string `key:"a"`
		}{}},
		"duration as int": {[]Field{{Key: "a", Kind: Int}}, &struct {
			A time.Duration `key:"a"`
		}{}},
		"nested elsewhere": {[]Field{{Key: "a", Kind: Nested}}, &struct {
			A string `key:"a"`
		}{}},
	} {
		t.Run(name, func(t *testing.T) {
			table := &Table{Title: "T", Fields: test.fields}
			require.Error(t, table.Check(test.into))
			require.Panics(t, func() { table.Decode("", "", nil, test.into) })
		})
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	require.NoError(t, testTable().WriteMarkdown(&b, 3))
	require.Equal(t, strings.Join([]string{
		"### Device", "", "The device.", "",
		"| key | what | default | meaning |", "|---|---|---|---|",
		"| `url` | text, 1 to 64 bytes | **required** | Where it is. Example: `tcp://10.0.0.7:502`. |",
		"| `unitId` | integer, 0 to 247 | `1` | Unit. Also spelled `slaveID`. |",
		"| `scale` | number, -1000000 to 1000000 | `1` | Factor. |",
		"| `register` | `coil`, `holding` |  | a \\| b. |",
		"| `timeout` | duration, 1ms to 1m | `1s` | Timeout. |",
		"| `bit` | integer, 0 to 15 |  | Bit. |",
		"| `sentinels` | list of any scalar, at most 3 items |  | No value. |",
		"| `enum` | map of text |  | Names. |",
		"| `write` | map |  | Writing. |",
		"| `write.verify` | boolean | `true` | Read back. |",
		"| `write.pause` | duration, 0s to 1h; a bare number is in ms | **required** | Pause. |",
		"| `extra` | map |  | More. |",
		"| `extra.verify` | boolean | `true` | Read back. |",
		"| `extra.pause` | duration, 0s to 1h; a bare number is in ms | **required** | Pause. |",
		"", "",
	}, "\n"), b.String())
}

func TestSuggest(t *testing.T) {
	known := []string{"url", "unitId", "ip", "order"}
	require.Equal(t, "did you mean unitId?", Suggest("unitID", known))
	require.Equal(t, "did you mean unitId?", Suggest("untId", known))
	require.Equal(t, "known are url, unitId, ip, order", Suggest("baud", known))
	require.Equal(t, "remove it", Suggest("baud", nil))
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"url":"x","unitId":"0x11","scale":"1e-1","timeout":"1s","bit":3,"sentinels":[1,"a"],"enum":{"0":"x"},"write":{"pause":20}}`)
	f.Add(`{"unitId":-1,"scale":1e400,"timeout":9e99,"write":[],"extra":{"pause":null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var data map[string]any
		if d.Decode(&data) != nil {
			return
		}
		var c config
		problems := testTable().Decode("o", "p", data, &c)
		for _, p := range problems {
			require.NotEmpty(t, p.Field)
			require.NotEmpty(t, p.What)
			require.NotEmpty(t, p.Remedy)
		}
		require.LessOrEqual(t, c.Unit, uint8(247))
		require.True(t, c.Timeout >= time.Millisecond && c.Timeout <= time.Minute)
		require.True(t, math.Abs(c.Scale) <= 1e6)
		require.True(t, len(problems) > 0 || (c.URL != "" && len(c.URL) <= 64))
	})
}
