package twin_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

func TestValueJSON(t *testing.T) {
	for _, c := range []struct {
		name, in, out string
		kind          twin.Kind
	}{
		{"true", `true`, `true`, twin.Bool},
		{"null is no value", `null`, `null`, twin.None},
		{"an integer", `-3`, `-3`, twin.Int},
		{"beyond 2^53", `9007199254740993`, `9007199254740993`, twin.Int},
		{"beyond int64", `18446744073709551615`, `18446744073709551615`, twin.Uint},
		{"beyond uint64", `18446744073709551616`, `18446744073709552000.0`, twin.Float},
		{"a whole float stays a float", `21.0`, `21.0`, twin.Float},
		{"an exponent", `1e6`, `1000000.0`, twin.Float},
		{"tiny", `1e-9`, `1e-09`, twin.Float},
		{"negative zero", `-0.0`, `0.0`, twin.Float},
		{"text", `"a\"é\n"`, `"a\"é\n"`, twin.String},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v twin.Value
			require.NoError(t, json.Unmarshal([]byte(c.in), &v))
			require.Equal(t, c.kind, v.Kind())
			out, err := json.Marshal(v)
			require.NoError(t, err)
			require.Equal(t, c.out, string(out))
		})
	}
}

func TestValueJSONRefuses(t *testing.T) {
	for _, in := range []string{`{}`, `[1]`, `1e999`, ``, `nil`, `truth`, `falsify`, `"` + strings.Repeat("x", twin.MaxStringValue+1) + `"`} {
		var v twin.Value
		require.Error(t, v.UnmarshalJSON([]byte(in)), "%.20s", in)
	}
}

func TestValueTextHasNoExponent(t *testing.T) {
	require.Equal(t, "1000000", twin.FloatValue(1e6).Text())
	require.Equal(t, "0.0000001", twin.FloatValue(1e-7).Text())
	require.NotContains(t, twin.FloatValue(math.MaxFloat64).Text(), "e")
}

func TestFloatWithoutJSONFormIsNoValue(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		require.True(t, twin.FloatValue(f).IsZero())
	}
}

func TestCompareIsExact(t *testing.T) {
	const big = 1<<53 + 1 // has no float64
	for _, c := range []struct {
		name string
		a, b twin.Value
		want int
		ok   bool
	}{
		{"21 and 21.0", twin.IntValue(21), twin.FloatValue(21), 0, true},
		{"2^53+1 and its rounding", twin.IntValue(big), twin.FloatValue(1 << 53), 1, true},
		{"neighbours beyond 2^53", twin.IntValue(big), twin.IntValue(big + 1), -1, true},
		{"int and uint", twin.IntValue(math.MaxInt64), twin.UintValue(math.MaxInt64 + 1), -1, true},
		{"uint and its rounding", twin.UintValue(math.MaxUint64), twin.FloatValue(1 << 64), -1, true},
		{"text is no number", twin.StringValue("1"), twin.IntValue(1), 0, false},
		{"nothing is no number", twin.Value{}, twin.IntValue(0), 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := c.a.Compare(c.b)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, got)
			require.Equal(t, c.ok && c.want == 0, c.a.Equal(c.b))
			require.Equal(t, c.ok && c.want == 0, c.b.Equal(c.a))
		})
	}
}

func TestParseValue(t *testing.T) {
	for _, c := range []struct {
		typ  twin.Type
		text string
		want twin.Value
		bad  string
	}{
		{twin.TypeInt, " 7 ", twin.IntValue(7), ""},
		{twin.TypeInt, "18446744073709551615", twin.UintValue(math.MaxUint64), ""},
		{twin.TypeInt, "7.5", twin.Value{}, "not an integer"},
		{twin.TypeFloat, "7", twin.FloatValue(7), ""},
		{twin.TypeDouble, "-1e3", twin.FloatValue(-1000), ""},
		{twin.TypeDouble, "NaN", twin.Value{}, "finite"},
		{twin.TypeBoolean, "ON", twin.BoolValue(true), ""},
		{twin.TypeBoolean, "0", twin.BoolValue(false), ""},
		{twin.TypeBoolean, "yes", twin.Value{}, "write true or false"},
		{twin.TypeString, " kept ", twin.StringValue(" kept "), ""},
		{twin.TypeString, strings.Repeat("x", twin.MaxStringValue+1), twin.Value{}, "at most"},
		{twin.TypeString, strings.Repeat("\xffa", twin.MaxStringValue/2), twin.Value{}, "at most"},
		{twin.TypeBytes, "AQI=", twin.StringValue("AQI="), ""},
		{twin.TypeBytes, "not base64", twin.Value{}, "base64"},
		{"STREAM", "x", twin.Value{}, "carries no value"},
	} {
		got, err := twin.ParseValue(c.typ, c.text)
		if c.bad != "" {
			require.ErrorContains(t, err, c.bad, "%s %.20s", c.typ, c.text)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestCoerceLosesNothing(t *testing.T) {
	low, high := twin.IntValue(0), twin.FloatValue(100.5)
	for _, c := range []struct {
		name string
		p    twin.Property
		in   twin.Value
		want twin.Value
		bad  string
	}{
		{"whole float to INT", twin.Property{Type: twin.TypeInt}, twin.FloatValue(3), twin.IntValue(3), ""},
		{"1e18 to INT", twin.Property{Type: twin.TypeInt}, twin.FloatValue(1e18), twin.IntValue(1e18), ""},
		{"fraction to INT", twin.Property{Type: twin.TypeInt}, twin.FloatValue(3.5), twin.Value{}, "not an integer"},
		{"INT to DOUBLE", twin.Property{Type: twin.TypeDouble}, twin.IntValue(3), twin.FloatValue(3), ""},
		{"2^53+1 to DOUBLE", twin.Property{Type: twin.TypeDouble}, twin.IntValue(1<<53 + 1), twin.Value{}, "does not fit"},
		{"1 to BOOLEAN", twin.Property{Type: twin.TypeBoolean}, twin.IntValue(1), twin.BoolValue(true), ""},
		{"nothing to STRING", twin.Property{Type: twin.TypeString}, twin.Value{}, twin.Value{}, "no value"},
		{"below", twin.Property{Type: twin.TypeInt, Minimum: low}, twin.IntValue(-1), twin.Value{}, "below the minimum 0"},
		{"above", twin.Property{Type: twin.TypeDouble, Maximum: high}, twin.FloatValue(101), twin.Value{}, "above the maximum 100.5"},
		{"at the bounds", twin.Property{Type: twin.TypeDouble, Minimum: low, Maximum: high}, twin.FloatValue(100.5), high, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.p.Coerce(c.in)
			if c.bad != "" {
				require.ErrorContains(t, err, c.bad)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// anyValue draws a value of any kind, never the zero Value.
func anyValue() *rapid.Generator[twin.Value] {
	return rapid.OneOf(
		rapid.Map(rapid.Bool(), twin.BoolValue),
		rapid.Map(rapid.Int64(), twin.IntValue),
		rapid.Map(rapid.Uint64(), twin.UintValue),
		rapid.Map(rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64), twin.FloatValue),
		rapid.Map(rapid.String(), twin.StringValue),
	)
}

func TestValueSurvivesJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue().Draw(t, "value")
		var back twin.Value
		require.NoError(t, json.Unmarshal(v.AppendJSON(nil), &back))
		require.Equal(t, v, back)
	})
}

func TestNumberSurvivesText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.Uint64().Draw(t, "integer")
		v, err := twin.ParseValue(twin.TypeInt, twin.UintValue(i).Text())
		require.NoError(t, err)
		require.Equal(t, twin.UintValue(i), v)
		f := twin.FloatValue(rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64).Draw(t, "float"))
		v, err = twin.ParseValue(twin.TypeDouble, f.Text())
		require.NoError(t, err)
		require.Equal(t, f, v)
	})
}

func FuzzValueJSON(f *testing.F) {
	for _, s := range []string{`null`, `true`, `-0`, `1e400`, `18446744073709551616`, `"\u0000\ud800"`, `[]`, ` 1 `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, back twin.Value
		if json.Unmarshal(b, &v) != nil {
			return
		}
		require.NoError(t, json.Unmarshal(v.AppendJSON(nil), &back))
		require.Equal(t, v, back)
	})
}
