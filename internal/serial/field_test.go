package serial

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// frameOf scans one frame as the device's line does.
func frameOf(t *testing.T, c *Config, raw string) *Message {
	t.Helper()
	s := framing.NewScanner(c.Framing)
	s.Push([]byte(raw), time.Unix(1, 0))
	f, ok := s.Next()
	require.True(t, ok, "%q is a frame", raw)
	m, err := c.message(f)
	require.NoError(t, err)
	return m
}

func TestWhereValuesAre(t *testing.T) {
	lines := keys{}
	for name, test := range map[string]struct {
		typ             twin.Type
		config, visitor keys
		frame           string
		of              bool
		want            twin.Value
		quality         twin.Quality
	}{
		"regex":             {twin.TypeDouble, lines, keys{"regex": `T=([-+0-9.]+)`}, "x T=+20.50C\r\n", true, twin.FloatValue(20.5), ""},
		"regex, no match":   {twin.TypeDouble, lines, keys{"regex": `T=([-+0-9.]+)`}, "x U=1\n", false, twin.Value{}, "bad:missing"},
		"named group":       {twin.TypeInt, lines, keys{"regex": `(?P<a>\d+)/(?P<b>\d+)`, "group": "b"}, "1/2\n", true, twin.IntValue(2), ""},
		"optional group":    {twin.TypeInt, lines, keys{"regex": `a(\d+)?`}, "ab\n", true, twin.Value{}, "bad:missing"},
		"column":            {twin.TypeDouble, lines, keys{"column": 2}, "a, b , 3.25\r\n", true, twin.FloatValue(3.25), ""},
		"column, spaces":    {twin.TypeInt, lines, keys{"column": 1, "separator": " "}, "  a \t 7  b\n", true, twin.IntValue(7), ""},
		"column, too few":   {twin.TypeDouble, lines, keys{"column": 2}, "a,b\n", false, twin.Value{}, "bad:missing"},
		"column, no number": {twin.TypeDouble, lines, keys{"column": 0}, "---,b\n", true, twin.Value{}, "bad:number"},
		"name":              {twin.TypeDouble, lines, keys{"name": "HUM"}, "TEMP=1, HUM=40.5;X=1\n", true, twin.FloatValue(40.5), ""},
		"name with colon":   {twin.TypeString, lines, keys{"name": "mode"}, "t:1 mode:eco\n", true, twin.StringValue("eco"), ""},
		"name, absent":      {twin.TypeDouble, lines, keys{"name": "HUM"}, "TEMP=1\n", false, twin.Value{}, "bad:missing"},
		"pointer":           {twin.TypeDouble, lines, keys{"pointer": "/s/1/t~1x"}, `{"s":[{},{"t/x":21.5}]}` + "\n", true, twin.FloatValue(21.5), ""},
		"pointer, exact":    {twin.TypeInt, lines, keys{"pointer": "/n"}, `{"n":18446744073709551615}` + "\n", true, twin.UintValue(1<<64 - 1), ""},
		"pointer, bool":     {twin.TypeBoolean, lines, keys{"pointer": "/on"}, `{"on":true}` + "\n", true, twin.BoolValue(true), ""},
		"pointer, absent":   {twin.TypeDouble, lines, keys{"pointer": "/a"}, `{"b":1}` + "\n", false, twin.Value{}, "bad:missing"},
		"pointer, no JSON":  {twin.TypeDouble, lines, keys{"pointer": "/a"}, `{"a":1` + "\n", false, twin.Value{}, "bad:missing"},
		"pointer, two":      {twin.TypeDouble, lines, keys{"pointer": "/a"}, `{"a":1}{"a":2}` + "\n", false, twin.Value{}, "bad:missing"},
		"bytes":             {twin.TypeInt, keys{"framing": keys{"kind": "fixed", "size": 4, "start": `\0`}}, keys{"at": 1, "type": "uint16", "order": "little"}, "\x00\x34\x12\x00", true, twin.IntValue(0x1234), ""},
		"bytes from end":    {twin.TypeInt, keys{"framing": keys{"kind": "fixed", "size": 4, "start": `\0`}}, keys{"at": -1, "type": "uint8"}, "\x00\x00\x00\xFE", true, twin.IntValue(254), ""},
		"bit":               {twin.TypeBoolean, keys{"framing": keys{"kind": "fixed", "size": 2, "start": `\0`}}, keys{"at": 1, "type": "bool", "bit": 3}, "\x00\x08", true, twin.BoolValue(true), ""},
		"bit of two bytes":  {twin.TypeBoolean, keys{"framing": keys{"kind": "fixed", "size": 3, "start": `\0`}}, keys{"at": 1, "type": "bool", "bit": 11, "length": 2}, "\x00\x08\x00", true, twin.BoolValue(true), ""},
		"text in places":    {twin.TypeDouble, lines, keys{"at": 2, "length": 5}, "W  12.5kg\n", true, twin.FloatValue(12.5), ""},
		"places too short":  {twin.TypeDouble, lines, keys{"at": 2, "length": 50}, "W  12.5kg\n", false, twin.Value{}, "bad:missing"},
		"scaled":            {twin.TypeDouble, lines, keys{"column": 0, "scale": 0.1}, "205\n", true, twin.FloatValue(20.5), ""},
		"enum":              {twin.TypeString, lines, keys{"column": 0, "enum": keys{"S": "stable", "D": "moving"}}, "D\n", true, twin.StringValue("moving"), ""},
		"enum of a boolean": {twin.TypeBoolean, lines, keys{"column": 0, "enum": keys{"ON": "true", "OFF": "false"}}, "OFF\n", true, twin.BoolValue(false), ""},
		"sentinel":          {twin.TypeDouble, lines, keys{"column": 0, "sentinels": []any{-999}}, "-999.0\n", true, twin.Value{}, "bad:sentinel"},
		"bad frame":         {twin.TypeDouble, lines, keys{"column": 1, "bad": keys{"motion": "^M"}}, "M,5\n", true, twin.Value{}, "bad:motion"},
		"when prefix":       {twin.TypeDouble, lines, keys{"column": 1, "when": keys{"prefix": "A,"}}, "B,5\n", false, twin.FloatValue(5), ""},
		"when match":        {twin.TypeDouble, lines, keys{"column": 1, "when": keys{"match": "^[AB],"}}, "B,5\n", true, twin.FloatValue(5), ""},
		"when equals":       {twin.TypeDouble, lines, keys{"column": 1, "when": keys{"equals": keys{"0": "B"}}}, "A,5\n", false, twin.FloatValue(5), ""},
		"when in JSON":      {twin.TypeDouble, keys{"values": keys{"id": 7}}, keys{"pointer": "/t", "when": keys{"equals": keys{"/id": "${id}"}}}, `{"id":7,"t":1}` + "\n", true, twin.FloatValue(1), ""},
		"when by name":      {twin.TypeDouble, lines, keys{"name": "T", "when": keys{"equals": keys{"ID": "3"}}}, "ID=4 T=1\n", false, twin.FloatValue(1), ""},
		"NMEA":              {twin.TypeDouble, keys{"profile": "nmea"}, keys{"field": "GGA.altitude"}, "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n", true, twin.FloatValue(545.4), ""},
	} {
		t.Run(name, func(t *testing.T) {
			decl := parse(t, test.typ, overlay(keys{"url": "serial:///dev/x"}, test.config), test.visitor)
			m := frameOf(t, &decl.Config, test.frame)
			f := &decl.Fields[0]
			_, _, has := f.Read(m)
			require.Equal(t, test.of, has)
			v, quality := f.Answer(m)
			require.Equal(t, test.quality, quality)
			require.Equal(t, test.want, v)
		})
	}
}

func TestCommands(t *testing.T) {
	for name, test := range map[string]struct {
		typ           twin.Type
		visitor       keys
		value, held   twin.Value
		send, refused string
	}{
		"as it is":       {twin.TypeDouble, keys{"column": 0, "write": keys{"send": "SP ${value}"}}, twin.FloatValue(20.5), twin.FloatValue(20.5), "SP 20.5\n", ""},
		"formatted":      {twin.TypeDouble, keys{"column": 0, "write": keys{"send": "SP${value:%+07.1f}"}}, twin.FloatValue(20.46), twin.FloatValue(20.5), "SP+0020.5\n", ""},
		"scaled":         {twin.TypeDouble, keys{"column": 0, "scale": 0.1, "write": keys{"send": "SP${value:%d}"}}, twin.FloatValue(20.5), twin.FloatValue(20.5), "SP205\n", ""},
		"enum":           {twin.TypeString, keys{"column": 0, "enum": keys{"S": "stable", "D": "moving"}, "write": keys{"send": "M${value}"}}, twin.StringValue("moving"), twin.StringValue("moving"), "MD\n", ""},
		"no such name":   {twin.TypeString, keys{"column": 0, "enum": keys{"S": "stable"}, "write": keys{"send": "M${value}"}}, twin.StringValue("still"), twin.Value{}, "", "stable"},
		"bytes":          {twin.TypeInt, keys{"at": 0, "type": "uint16", "write": keys{"sendHex": "02 ${value} 03", "raw": true}}, twin.IntValue(258), twin.IntValue(258), "\x02\x01\x02\x03", ""},
		"bytes beyond":   {twin.TypeInt, keys{"at": 0, "type": "uint8", "write": keys{"sendHex": "02 ${value}"}}, twin.IntValue(256), twin.Value{}, "", "255"},
		"assumed":        {twin.TypeBoolean, keys{"enum": keys{"ON": "true", "OFF": "false"}, "write": keys{"send": "RELAY ${value}", "assume": true}}, twin.BoolValue(true), twin.BoolValue(true), "RELAY ON\n", ""},
		"two commands":   {twin.TypeString, keys{"column": 0, "write": keys{"send": "NAME ${value}"}}, twin.StringValue("a\nRESET"), twin.Value{}, "", "would end the frame"},
		"not an integer": {twin.TypeDouble, keys{"column": 0, "write": keys{"send": "${value:%d}"}}, twin.FloatValue(1.5), twin.Value{}, "", "is not an integer"},
	} {
		t.Run(name, func(t *testing.T) {
			test.visitor["write"].(keys)["reply"] = keys{"none": true}
			decl := parse(t, test.typ, keys{}, test.visitor)
			r, held, err := decl.Fields[0].Command(&decl.Config, test.value)
			if test.refused != "" {
				require.ErrorContains(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.send, string(r.Send))
			require.True(t, test.held.Equal(held), "%s", held)
		})
	}
}

func TestTimesOfDayAreOfTheNearestDay(t *testing.T) {
	const minute = time.Minute
	for name, test := range map[string]struct {
		now, said string
		want      time.Duration // from now
		quality   twin.Quality
	}{
		"same":            {"12:00", "12:00", 0, ""},
		"a bit ago":       {"12:00", "11:59", -minute, ""},
		"before midnight": {"00:01", "23:59", -2 * minute, ""},
		"after midnight":  {"23:59", "00:01", 2 * minute, ""},
		"at the bound":    {"12:00", "12:15", 15 * minute, ""},
		"beyond":          {"12:00", "12:16", 0, "uncertain:clock"},
		"another zone":    {"12:00", "13:00", 0, "uncertain:clock"},
	} {
		t.Run(name, func(t *testing.T) {
			now, err := time.Parse("2006-01-02 15:04", "2026-03-01 "+test.now)
			require.NoError(t, err)
			said, err := time.Parse("15:04", test.said)
			require.NoError(t, err)
			daytime := time.Duration(said.Hour())*time.Hour + time.Duration(said.Minute())*minute
			at, quality := (&Config{}).Time(&Message{At: now, Telegram: &telegram.Telegram{Daytime: daytime, HasDaytime: true}})
			require.Equal(t, now.Add(test.want), at)
			require.Equal(t, test.quality, quality)
		})
	}
}

func TestClocks(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		said    time.Time
		arrival bool
		want    time.Time
		quality twin.Quality
	}{
		"none":        {time.Time{}, false, now, ""},
		"its own":     {now.Add(-time.Minute), false, now.Add(-time.Minute), ""},
		"not wanted":  {now.Add(-time.Minute), true, now, ""},
		"at a day":    {now.Add(-24 * time.Hour), false, now.Add(-24 * time.Hour), ""},
		"beyond":      {now.Add(-24*time.Hour - 1), false, now, "uncertain:clock"},
		"in a future": {now.Add(24*time.Hour + 1), false, now, "uncertain:clock"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Config{Arrival: test.arrival}
			at, quality := c.Time(&Message{At: now, Telegram: &telegram.Telegram{Time: test.said}})
			require.Equal(t, test.want, at)
			require.Equal(t, test.quality, quality)
		})
	}
}

// FuzzMessage looks for frames that no source can be asked for a value of.
func FuzzMessage(f *testing.F) {
	f.Add("a,b=1 {\"c\":[1]}", "/c/0", ",")
	f.Add(strings.Repeat(",", 2000), "", " ")
	f.Fuzz(func(t *testing.T, data, pointer, separator string) {
		m := &Message{Data: []byte(data)}
		path, _ := parsePointer(pointer)
		if separator == "" {
			separator = ","
		}
		for _, s := range []source{{kind: byColumn, separator: separator, column: 3}, {kind: byName, name: "b"}, {kind: byPointer, pointer: path}, {kind: byPlace, at: -3, length: 2}, {kind: byPlace, at: 4000, length: 4096}, {kind: byField, name: "x"}} {
			p := s.find(m)
			require.Equal(t, p, s.find(m), "%s, asked again", s.String())
			require.LessOrEqual(t, len(p.text)+len(p.bytes), len(data)+1)
			if s.kind == byName {
				text, ok := firstPair(data, s.name)
				require.Equal(t, place{found: ok, text: text}, p)
			}
		}
		require.LessOrEqual(t, len(m.parted(separator)), max(maxParts, len(data)))
		require.LessOrEqual(t, len(m.pairs), maxParts)
	})
}

// firstPair is Message.pair in other words, for few pairs.
func firstPair(data, name string) (value string, ok bool) {
	words := strings.FieldsFunc(data, func(r rune) bool { return strings.ContainsRune(",; \t\r\n", r) })
	for _, word := range words[:min(maxParts, len(words))] {
		if i := strings.IndexAny(word, "=:"); i > 0 && word[:i] == name {
			return word[i+1:], true
		}
	}
	return "", false
}
