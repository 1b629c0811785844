package twin_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

var boiler = twin.DeviceID{Namespace: "default", Name: "boiler"}

func TestSampleJSON(t *testing.T) {
	s := twin.Sample{
		Device: boiler, Epoch: 3, Seq: 17, Time: time.Date(2026, 1, 2, 4, 4, 5, 6000, time.FixedZone("", 3600)),
		Readings: []twin.Reading{
			{Property: "temperature", Value: twin.FloatValue(20.5)},
			{Property: "level", Quality: twin.Bad("timeout")},
			{Property: "flow", Value: twin.IntValue(9), Quality: twin.Uncertain("range")},
			{Property: "nan"},
			{Property: "stale", Value: twin.IntValue(1), Quality: twin.Bad("crc")},
		},
	}
	require.Equal(t, `{"device":"default/boiler","epoch":3,"seq":17,"time":"2026-01-02T03:04:05.000006Z",`+
		`"values":{"temperature":20.5,"flow":9},`+
		`"quality":{"level":"bad:timeout","flow":"uncertain:range","nan":"bad:null","stale":"bad:crc"}}`, string(s.AppendJSON(nil)))
}

func TestSampleRefuses(t *testing.T) {
	const head = `{"device":"a/b","epoch":1,"seq":1,"time":"2026-01-02T03:04:05Z",`
	many := map[string]int{}
	for i := range twin.MaxSampleReadings + 1 {
		many[fmt.Sprint("p", i)] = i
	}
	tooMany, err := json.Marshal(many)
	require.NoError(t, err)
	for _, c := range []struct{ name, in, want string }{
		{"no device", `{"epoch":1,"seq":1,"time":"2026-01-02T03:04:05Z"}`, "all needed"},
		{"no sequence", `{"device":"a/b","epoch":1,"time":"2026-01-02T03:04:05Z"}`, "all needed"},
		{"year 10000", `{"device":"a/b","epoch":1,"seq":1,"time":"9999-12-31T23:59:59-01:00","values":{"x":1}}`, "outside the years"},
		{"a device that cannot be", `{"device":"A/b","epoch":1,"seq":1}`, "not a Kubernetes namespace"},
		{"a null value", head + `"values":{"x":null}}`, "null value"},
		{"bad with a value", head + `"values":{"x":1},"quality":{"x":"bad:crc"}}`, "yet has a value"},
		{"uncertain without a value", head + `"quality":{"x":"uncertain:range"}}`, "yet has no value"},
		{"an unknown quality", head + `"values":{"x":1},"quality":{"x":"fine"}}`, "want good"},
		{"a name without characters", head + `"values":{"":1}}`, "want 1 to 128"},
		{"too many readings", head + `"values":` + string(tooMany) + `}`, "at most"},
		{"too long", head + `"values":{"x":"` + strings.Repeat(" ", twin.MaxSampleSize) + `"}}`, "at most"},
		{"not JSON", `{`, "sample"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s twin.Sample
			require.ErrorContains(t, s.UnmarshalJSON([]byte(c.in)), c.want)
		})
	}
}

func TestQualityValid(t *testing.T) {
	for q, want := range map[twin.Quality]bool{
		"": true, "good": true, "bad:exception-2": true, "uncertain:sub_normal": true,
		"bad": false, "bad:": false, "good:x": false, "bad:Time Out": false, "poor:x": false,
		twin.Bad(strings.Repeat("x", 60)): true, twin.Bad(strings.Repeat("x", 61)): false,
	} {
		require.Equal(t, want, q.Valid(), "%q", q)
	}
}

// readings draws the readings of one sample, sorted as UnmarshalJSON gives them.
func readings() *rapid.Generator[[]twin.Reading] {
	return rapid.Custom(func(t *rapid.T) []twin.Reading {
		values, quality := map[string]twin.Value{}, map[string]twin.Quality{}
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zA-Z_][a-z0-9é"]{0,20}`), 1, 8, rapid.ID).Draw(t, "names") {
			switch rapid.IntRange(0, 2).Draw(t, "quality") {
			case 0:
				values[name] = anyValue().Draw(t, "good")
			case 1:
				values[name], quality[name] = anyValue().Draw(t, "uncertain"), twin.Uncertain("range")
			case 2:
				quality[name] = twin.Bad("timeout")
			}
		}
		out, err := twin.MergeReadings(values, quality)
		require.NoError(t, err)
		return out
	})
}

func instants() *rapid.Generator[time.Time] {
	return rapid.Map(rapid.Int64Range(0, 253402300799999999), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
}

func TestSampleAndEventSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := twin.Sample{
			Device: boiler, Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Seq: rapid.Uint64Min(1).Draw(t, "seq"),
			Time: instants().Draw(t, "time"), Readings: readings().Draw(t, "readings"),
		}
		var back twin.Sample
		require.NoError(t, json.Unmarshal(s.AppendJSON(nil), &back))
		require.Equal(t, s, back)
		e := twin.EventOf(&s)
		var event twin.Event
		require.NoError(t, json.Unmarshal(e.AppendJSON(nil), &event))
		require.Equal(t, e, event)
	})
}

func TestCommandSurvivesJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := twin.Command{
			ID: rapid.StringN(1, 32, 128).Draw(t, "id"), Property: "setpoint", Source: "reactor/" + rapid.StringN(0, 20, 80).Draw(t, "source"),
			Value: rapid.OneOf(anyValue(), rapid.Just(twin.Value{})).Draw(t, "value"), Priority: rapid.IntRange(1, twin.LowestPriority).Draw(t, "priority"),
			TTL: time.Duration(rapid.Int64Range(0, int64(twin.MaxCommandTTL)).Draw(t, "ttl")),
		}
		b, err := json.Marshal(c)
		require.NoError(t, err)
		var back twin.Command
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, c, back)
	})
}

func TestCommandBounds(t *testing.T) {
	ok := `{"id":"1","property":"p","value":1,"source":"s"}`
	var c twin.Command
	require.NoError(t, json.Unmarshal([]byte(ok), &c))
	require.Equal(t, twin.DefaultPriority, c.Priority)
	require.Zero(t, c.TTL)
	require.NoError(t, json.Unmarshal([]byte(`{"id":"1","property":"p","value":1,"source":"s","ttl":1e-12}`), &c))
	require.Positive(t, c.TTL, "a tiny ttl must not become: for ever")
	for _, c := range []struct{ in, want string }{
		{`{"property":"p","source":"s"}`, "id has 0"},
		{`{"id":"` + strings.Repeat("x", 129) + `","property":"p","source":"s"}`, "id has 129"},
		{`{"id":"1","source":"s"}`, "property has 0"},
		{`{"id":"1","property":"` + strings.Repeat("x", 129) + `","source":"s"}`, "property has 129"},
		{`{"id":"1","property":"p"}`, "source has 0"},
		{`{"id":"1","property":"p","source":"s","priority":17}`, "priority 17"},
		{`{"id":"1","property":"p","source":"s","priority":-1}`, "priority -1"},
		{`{"id":"1","property":"p","source":"s","ttl":-1}`, "ttl -1"},
		{`{"id":"1","property":"p","source":"s","ttl":604801}`, "ttl 604801"},
		{`{"id":"1","property":"p","source":"s","value":{}}`, "not an object"},
		{`{"id":"1","property":"p","source":"s","value":"` + strings.Repeat("x", 80<<10) + `"}`, "at most"},
	} {
		var cmd twin.Command
		require.ErrorContains(t, json.Unmarshal([]byte(c.in), &cmd), c.want)
	}
}

func TestEventOfOthers(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, stamp string
		want        time.Time
		bad         string
	}{
		{"RFC 3339", `"2026-11-23T09:00:00+01:00"`, at, ""},
		{"ISO without zone", `"2026-11-23T08:00:00.000001"`, at.Add(time.Microsecond), ""},
		{"with a space", `"2026-11-23 08:00:00"`, at, ""},
		{"seconds", `1795420800`, at, ""},
		{"seconds with microseconds", `1795420800.000001`, at.Add(time.Microsecond), ""},
		{"milliseconds", `1795420800000`, at, ""},
		{"missing", `null`, time.Time{}, "missing"},
		{"negative", `-1`, time.Time{}, "not a time"},
		{"far", `1e15`, time.Time{}, "outside the years"},
		{"text", `"yesterday"`, time.Time{}, "not a time"},
		{"year 1969", `"1969-12-31T23:59:59Z"`, time.Time{}, "outside the years"},
		{"a list", `[1]`, time.Time{}, "not a time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e twin.Event
			err := json.Unmarshal([]byte(`{"device_id":"x","timestamp":`+c.stamp+`,"data":{"a":1},"more":{}}`), &e)
			if c.bad != "" {
				require.ErrorContains(t, err, c.bad)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, e.Time)
		})
	}
	_, err := twin.ParseEventTime(json.RawMessage("NaN"))
	require.Error(t, err)
}

func TestEventNullBecomesBad(t *testing.T) {
	var e twin.Event
	require.NoError(t, json.Unmarshal([]byte(`{"device_id":"x","timestamp":1,"data":{"a":null,"b":null},"quality":{"b":"bad:crc"}}`), &e))
	require.Equal(t, []twin.Reading{twin.BadReading("a", "null"), twin.BadReading("b", "crc")}, e.Readings)
}

func TestEventRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"timestamp":1,"data":{"a":1}}`, "device_id has 0"},
		{`{"device_id":"` + strings.Repeat("x", twin.MaxEventDeviceID+1) + `","timestamp":1,"data":{"a":1}}`, "device_id has 321"},
		{`{"device_id":"x","timestamp":1,"data":{}}`, "no property"},
		{`{"device_id":"x","timestamp":1,"data":{"a":1},"epoch":1}`, "go together"},
		{`{"device_id":"x","timestamp":1,"data":{"a":[1]}}`, "not an object or an array"},
	} {
		var e twin.Event
		require.ErrorContains(t, json.Unmarshal([]byte(c.in), &e), c.want)
	}
}

func TestPositionBefore(t *testing.T) {
	p := twin.Position{Epoch: 2, Seq: 5}
	require.True(t, twin.Position{Epoch: 1, Seq: math.MaxUint64}.Before(p))
	require.True(t, twin.Position{Epoch: 2, Seq: 4}.Before(p))
	require.False(t, p.Before(p))
	require.False(t, twin.Position{Epoch: 3}.Before(p))
}

func FuzzSampleJSON(f *testing.F) {
	f.Add([]byte(`{"device":"a/b","epoch":1,"seq":1,"time":"2026-01-02T03:04:05.000006Z","values":{"x":1},"quality":{"y":"bad:crc"}}`))
	f.Add([]byte(`{"device":"a/b","epoch":1,"seq":1,"time":"9999-12-31T23:59:59-23:59","values":{"x":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, back twin.Sample
		if s.UnmarshalJSON(b) != nil {
			return
		}
		require.NoError(t, back.UnmarshalJSON(s.AppendJSON(nil)))
		require.Equal(t, s, back)
	})
}

func FuzzEventJSON(f *testing.F) {
	f.Add([]byte(`{"device_id":"x","timestamp":1795420800.5,"data":{"a":null,"b":"t"},"quality":{"b":"uncertain:x"}}`))
	f.Add([]byte(`{"device_id":"x","timestamp":"2026-11-23 08:00:00,5","data":{"a":1},"epoch":1,"seq":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, back twin.Event
		if e.UnmarshalJSON(b) != nil {
			return
		}
		require.NoError(t, back.UnmarshalJSON(e.AppendJSON(nil)))
		require.Equal(t, e, back)
	})
}

func FuzzCommandJSON(f *testing.F) {
	f.Add([]byte(`{"id":"1","property":"p","value":1,"source":"s","priority":3,"ttl":0.5}`))
	f.Add([]byte(`{"id":"\ud800","property":"p","value":null,"source":"s","ttl":1e-300}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, back twin.Command
		if json.Unmarshal(b, &c) != nil {
			return
		}
		out, err := json.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &back))
		require.Equal(t, c, back)
	})
}
