package number

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

// text makes a Format of a Decl that is right.
func text(t require.TestingT, d Decl) *Format {
	if d.Scale == 0 {
		d.Scale = 1
	}
	f, ok := NewText(d, refuse(t))
	require.True(t, ok)
	return &f
}

func TestDecodeText(t *testing.T) {
	double, integer := Decl{Out: twin.TypeDouble}, Decl{Out: twin.TypeInt}
	scaled := func(scale, offset float64) Decl { return Decl{Out: twin.TypeDouble, Scale: scale, Offset: offset} }
	whole := func(scale float64) Decl { return Decl{Out: twin.TypeInt, Scale: scale} }
	hexInt, yesNo := Decl{Type: "hex", Out: twin.TypeInt}, Decl{Out: twin.TypeBoolean}
	f, i, bad := twin.FloatValue, twin.IntValue, twin.Value{}
	for name, test := range map[string]struct {
		decl    Decl
		text    string
		want    twin.Value
		quality twin.Quality
	}{
		"padded":                {double, " +0012.50 ", f(12.5), ""},
		"line end":              {double, "\t12.5\r\n", f(12.5), ""},
		"sign apart":            {double, "-    3.25", f(-3.25), ""},
		"no digit before":       {double, ".5", f(0.5), ""},
		"no digit after":        {double, "5.", f(5), ""},
		"exponent":              {double, "1.5E+03", f(1500), ""},
		"small exponent":        {double, "-1.5e-3", f(-0.0015), ""},
		"negative zero":         {double, "-0.0", f(0), ""},
		"17 digits":             {double, "0.1000000000000000055511151231257827", f(0.1), ""},
		"largest":               {double, "1.7976931348623157e308", f(math.MaxFloat64), ""},
		"beyond the largest":    {double, "1.8e308", bad, "bad:range"},
		"far beyond":            {double, "1e99999999999999999999", bad, "bad:range"},
		"nearly nothing":        {double, "1e-99999999999999999999", f(0), ""},
		"zero, far":             {double, "0e99999999999", f(0), ""},
		"tenths":                {scaled(0.1, 0), "20.5", f(2.05), ""},
		"no noise":              {scaled(0.1, 0), "0.3", f(0.03), ""},
		"no noise, thirds":      {scaled(0.1, 0), "3", f(0.3), ""},
		"moved":                 {scaled(0.01, -273.15), "30000", f(26.85), ""},
		"moved, decimals":       {scaled(0.01, -273.15), "30000.5", f(26.855), ""},
		"upside down":           {scaled(-0.5, 100), "-1.2", f(100.6), ""},
		"scaled exponent":       {scaled(0.1, 0), "1.5E+03", f(150), ""},
		"scaled, large":         {scaled(0.001, 0), "18446744073709551615", f(18446744073709551.615), ""},
		"scaled, 30 digits":     {scaled(0.1, 0), "1.00000000000000000000000000001", f(0.1), ""},
		"scaled beyond":         {scaled(1e30, 0), "1e300", bad, "bad:range"},
		"scaled, far beyond":    {scaled(1e-30, 0), "1e9999", bad, "bad:range"},
		"scaled, odd":           {scaled(1e-20, 0), "5", f(5e-20), ""},
		"not a number":          {double, "nan", bad, "bad:nan"},
		"infinite":              {double, "-Inf", bad, "bad:nan"},
		"infinite, spelled":     {double, "+INFINITY", bad, "bad:nan"},
		"dashes":                {double, "---", bad, "bad:number"},
		"overload":              {double, "OL", bad, "bad:number"},
		"overflow":              {double, "OVERFLOW", bad, "bad:number"},
		"empty":                 {double, "   ", bad, "bad:number"},
		"comma":                 {double, "1,5", bad, "bad:number"},
		"two points":            {double, "1.2.3", bad, "bad:number"},
		"only a point":          {double, ".", bad, "bad:number"},
		"only a sign":           {double, "-", bad, "bad:number"},
		"two signs":             {double, "+-1", bad, "bad:number"},
		"exponent, empty":       {double, "1e", bad, "bad:number"},
		"exponent, sign":        {double, "1e+", bad, "bad:number"},
		"something left":        {double, "12.5 kg", bad, "bad:number"},
		"spaces within":         {double, "12 5", bad, "bad:number"},
		"underscore":            {double, "1_000", bad, "bad:number"},
		"hexadecimal":           {double, "0x10", bad, "bad:number"},
		"too long":              {double, "0" + strings.Repeat("0", maxNumber), bad, "bad:number"},
		"as long as may be":     {double, strings.Repeat("0", maxNumber-1) + "7", f(7), ""},
		"INT":                   {integer, " 0012", i(12), ""},
		"INT, zeros after":      {integer, "12.00", i(12), ""},
		"INT, exponent":         {integer, "1.5E+03", i(1500), ""},
		"INT, fraction":         {integer, "12.5", bad, "bad:fraction"},
		"INT, far fraction":     {integer, "1e-9999", bad, "bad:fraction"},
		"INT, smallest":         {integer, "-9223372036854775808", i(math.MinInt64), ""},
		"INT, below":            {integer, "-9223372036854775809", bad, "bad:range"},
		"INT, largest":          {integer, "18446744073709551615", twin.UintValue(math.MaxUint64), ""},
		"INT, above":            {integer, "18446744073709551616", bad, "bad:range"},
		"INT, far above":        {integer, "1e9999", bad, "bad:range"},
		"INT, 2^53+1":           {integer, "9007199254740993", i(1<<53 + 1), ""},
		"INT, scaled":           {whole(10), "20.5", i(205), ""},
		"INT, scaled, fraction": {whole(10), "20.55", bad, "bad:fraction"},
		"INT, scaled, large":    {whole(1000), "9223372036854775.807", i(math.MaxInt64), ""},
		"hex":                   {hexInt, " 00fF ", i(255), ""},
		"hex, 0x":               {hexInt, "0xFF", i(255), ""},
		"hex, largest":          {hexInt, "FFFFFFFFFFFFFFFF", twin.UintValue(math.MaxUint64), ""},
		"hex, beyond":           {hexInt, "10000000000000000", bad, "bad:range"},
		"hex, signed":           {hexInt, "-1", bad, "bad:number"},
		"hex, none":             {hexInt, "", bad, "bad:number"},
		"hex, none behind 0x":   {hexInt, "0x", bad, "bad:number"},
		"hex, scaled":           {Decl{Type: "hex", Out: twin.TypeDouble, Scale: 0.1}, "CD", f(20.5), ""},
		"yes":                   {yesNo, " ON\r\n", twin.BoolValue(true), ""},
		"no":                    {yesNo, "False", twin.BoolValue(false), ""},
		"yes, 1":                {yesNo, "1", twin.BoolValue(true), ""},
		"perhaps":               {yesNo, "2", bad, "bad:bool"},
		"string":                {Decl{Out: twin.TypeString}, "  ab  ", twin.StringValue("  ab"), ""},
		"string, NUL":           {Decl{Out: twin.TypeString}, "ab\x00cd", twin.StringValue("ab"), ""},
		"string, Latin-1":       {Decl{Out: twin.TypeString}, "20 \xb0C", twin.StringValue("20 \uFFFDC"), ""},
		"string, longest":       {Decl{Out: twin.TypeString}, strings.Repeat("x", twin.MaxStringValue), twin.StringValue(strings.Repeat("x", twin.MaxStringValue)), ""},
		"string, too long":      {Decl{Out: twin.TypeString}, strings.Repeat("x", twin.MaxStringValue+1), bad, "bad:range"},
		"bytes":                 {Decl{Out: twin.TypeBytes}, "\x01\x02 ", twin.StringValue("AQIg"), ""},
		"name":                  {Decl{Out: twin.TypeString, Enum: map[string]string{"S": "stable", "D": "moving"}}, " D ", twin.StringValue("moving"), ""},
		"name, other case":      {Decl{Out: twin.TypeString, Enum: map[string]string{"S": "stable"}}, "s", bad, "bad:enum"},
		"name of nothing":       {Decl{Out: twin.TypeString, Enum: map[string]string{"": "none"}}, "   ", twin.StringValue("none"), ""},
		"name, boolean":         {Decl{Out: twin.TypeBoolean, Enum: map[string]string{"RUN": "true", "STOP": "false"}}, "STOP", twin.BoolValue(false), ""},
		"name, no boolean":      {Decl{Out: twin.TypeBoolean, Enum: map[string]string{"RUN": "true"}}, "ON", bad, "bad:enum"},
	} {
		t.Run(name, func(t *testing.T) {
			got, quality := text(t, test.decl).DecodeText(test.text)
			require.Equal(t, test.quality, quality)
			require.Equal(t, test.want, got)
		})
	}
}

func TestSentinelsOfText(t *testing.T) {
	for name, test := range map[string]struct {
		decl     Decl
		sentinel twin.Value
		text     string
		is       bool
	}{
		"text":                {Decl{Out: twin.TypeDouble}, twin.StringValue(" OL "), "OL\r", true},
		"text, another":       {Decl{Out: twin.TypeDouble}, twin.StringValue("OL"), "0L", false},
		"number":              {Decl{Out: twin.TypeDouble}, twin.FloatValue(9.9e37), "9.9E+37", true},
		"number, text":        {Decl{Out: twin.TypeDouble}, twin.StringValue("9.91E37"), "+99.1000E+36", true},
		"number, near":        {Decl{Out: twin.TypeDouble}, twin.FloatValue(9.9e37), "9.9000001E+37", false},
		"before scaling":      {Decl{Out: twin.TypeDouble, Scale: 0.1}, twin.IntValue(-9999), "-09999.0", true},
		"after scaling":       {Decl{Out: twin.TypeDouble, Scale: 0.1}, twin.IntValue(-9999), "-99990", false},
		"zero":                {Decl{Out: twin.TypeInt}, twin.IntValue(0), "-0.00", true},
		"beyond 64 bits":      {Decl{Out: twin.TypeDouble}, twin.StringValue("184467440737095516150001"), "184467440737095516150001.0", true},
		"beyond, near":        {Decl{Out: twin.TypeDouble}, twin.StringValue("184467440737095516150001"), "184467440737095516150002", false},
		"hex, number":         {Decl{Type: "hex", Out: twin.TypeInt}, twin.IntValue(0x7FFF), "7fff", true},
		"hex, text":           {Decl{Type: "hex", Out: twin.TypeInt}, twin.StringValue("7FFF"), "007fff", true},
		"hex, digits of ten":  {Decl{Type: "hex", Out: twin.TypeInt}, twin.IntValue(10), "10", false},
		"hex, digits, quoted": {Decl{Type: "hex", Out: twin.TypeInt}, twin.StringValue("10"), "10", true},
		"hex, dashes":         {Decl{Type: "hex", Out: twin.TypeInt}, twin.StringValue("--"), "--", true},
		"string":              {Decl{Out: twin.TypeString}, twin.StringValue("none"), " none ", true},
		"string, number":      {Decl{Out: twin.TypeString}, twin.IntValue(0), "0", true},
		"string, other zero":  {Decl{Out: twin.TypeString}, twin.IntValue(0), "00", false},
		"enum":                {Decl{Out: twin.TypeString, Enum: map[string]string{"S": "stable"}}, twin.StringValue("?"), "?", true},
		"boolean":             {Decl{Out: twin.TypeBoolean}, twin.BoolValue(true), "true", true},
	} {
		t.Run(name, func(t *testing.T) {
			test.decl.Sentinels = []twin.Value{twin.StringValue("another"), test.sentinel}
			v, quality := text(t, test.decl).DecodeText(test.text)
			require.Equal(t, test.is, quality == badSentinel, "%s %s", v, quality)
		})
	}
}

func TestEncodeText(t *testing.T) {
	f, i := twin.FloatValue, twin.IntValue
	for name, test := range map[string]struct {
		decl  Decl
		value twin.Value
		want  string
		held  twin.Value // the zero value: value
		wrong string
	}{
		"number":              {Decl{Out: twin.TypeDouble}, f(20.5), "20.5", twin.Value{}, ""},
		"no exponent":         {Decl{Out: twin.TypeDouble}, f(1e21), "1000000000000000000000", twin.Value{}, ""},
		"small, no exponent":  {Decl{Out: twin.TypeDouble}, f(-1e-7), "-0.0000001", twin.Value{}, ""},
		"zero":                {Decl{Out: twin.TypeDouble}, f(0), "0", twin.Value{}, ""},
		"scaled":              {Decl{Out: twin.TypeDouble, Scale: 0.1}, f(2.05), "20.5", twin.Value{}, ""},
		"scaled and moved":    {Decl{Out: twin.TypeDouble, Scale: 0.01, Offset: -273.15}, f(26.85), "30000", twin.Value{}, ""},
		"thirds":              {Decl{Out: twin.TypeDouble, Scale: 0.3}, f(1), "3.3333333333333333", twin.Value{}, ""},
		"at an edge":          {Decl{Out: twin.TypeDouble, Scale: 0.3, Offset: 0.5}, f(1.2039e21), "4013000000000000436905", twin.Value{}, ""},
		"INT":                 {Decl{Out: twin.TypeInt}, twin.UintValue(math.MaxUint64), "18446744073709551615", twin.Value{}, ""},
		"INT, scaled":         {Decl{Out: twin.TypeInt, Scale: 10}, i(205), "20.5", twin.Value{}, ""},
		"INT, nearest":        {Decl{Out: twin.TypeInt, Scale: 3}, i(100), "33", i(99), ""},
		"hex":                 {Decl{Type: "hex", Out: twin.TypeInt}, i(255), "FF", twin.Value{}, ""},
		"hex, nearest":        {Decl{Type: "hex", Out: twin.TypeDouble, Scale: 0.5}, f(20.3), "29", f(20.5), ""},
		"hex, negative":       {Decl{Type: "hex", Out: twin.TypeInt}, i(-1), "", twin.Value{}, "-1 is beyond what hex holds: use 0 to 18446744073709551615"},
		"yes":                 {Decl{Out: twin.TypeBoolean}, twin.BoolValue(true), "1", twin.Value{}, ""},
		"no":                  {Decl{Out: twin.TypeBoolean}, twin.BoolValue(false), "0", twin.Value{}, ""},
		"named yes":           {Decl{Out: twin.TypeBoolean, Enum: map[string]string{"RUN": "true", "STOP": "false"}}, twin.BoolValue(true), "RUN", twin.Value{}, ""},
		"unnamed no":          {Decl{Out: twin.TypeBoolean, Enum: map[string]string{"RUN": "true"}}, twin.BoolValue(false), "", twin.Value{}, `"false" is not one of its names: use true`},
		"name":                {Decl{Out: twin.TypeString, Enum: map[string]string{"S": "stable"}}, twin.StringValue("stable"), "S", twin.Value{}, ""},
		"no name":             {Decl{Out: twin.TypeString, Enum: map[string]string{"S": "stable"}}, twin.StringValue("S"), "", twin.Value{}, `"S" is not one of its names: use stable`},
		"string":              {Decl{Out: twin.TypeString}, twin.StringValue(" ab "), " ab ", twin.StringValue(" ab"), ""},
		"bytes":               {Decl{Out: twin.TypeBytes}, twin.StringValue("AQI="), "\x01\x02", twin.Value{}, ""},
		"no base64":           {Decl{Out: twin.TypeBytes}, twin.StringValue("?"), "", twin.Value{}, "is not base64"},
		"sentinel":            {Decl{Out: twin.TypeInt, Sentinels: []twin.Value{i(7)}}, i(7), "", twin.Value{}, "7 would read back as bad:sentinel"},
		"not a number":        {Decl{Out: twin.TypeInt}, twin.StringValue("x"), "", twin.Value{}, "x is not a number"},
		"not a boolean":       {Decl{Out: twin.TypeBoolean}, i(1), "", twin.Value{}, "1 is not a boolean"},
		"binary, not as text": {Decl{Out: twin.TypeBoolean}, twin.StringValue("1"), "", twin.Value{}, "1 is not a boolean"},
	} {
		t.Run(name, func(t *testing.T) {
			got, held, err := text(t, test.decl).EncodeText(test.value)
			if test.wrong != "" {
				require.ErrorContains(t, err, test.wrong)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
			if test.held.IsZero() {
				test.held = test.value
			}
			require.Equal(t, test.held, held)
		})
	}
}

func TestTextAndBinaryAreApart(t *testing.T) {
	b := binary(t, Decl{Type: "uint8", Out: twin.TypeInt})
	_, quality := b.DecodeText("1")
	require.Equal(t, badNumber, quality)
	_, _, err := b.EncodeText(twin.IntValue(1))
	require.ErrorContains(t, err, "is held in bytes")
	n := text(t, Decl{Out: twin.TypeInt})
	_, quality = n.Decode([]byte("1"))
	require.Equal(t, badShort, quality)
	_, _, err = n.Encode(twin.IntValue(1))
	require.ErrorContains(t, err, "is sent as text")
	require.Nil(t, n.Mask())
}

// Every reading passes here.
func TestNumbersAreDecodedWithoutAllocation(t *testing.T) {
	plain, scaled, whole := text(t, Decl{Out: twin.TypeDouble}), text(t, Decl{Out: twin.TypeDouble, Scale: 0.1, Offset: -273.15}), text(t, Decl{Out: twin.TypeInt})
	bits := binary(t, Decl{Type: "int24", Out: twin.TypeDouble, Scale: 0.1, Sentinels: []twin.Value{twin.IntValue(-1)}})
	data := []byte{0x12, 0x34, 0x56}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		plain.DecodeText(" -  0012.50E+01\r\n")
		scaled.DecodeText("+30000.50")
		whole.DecodeText("0042.0")
		bits.Decode(data)
	}))
}

// drawText draws a declaration of a number in text.
func drawText(rt *rapid.T) Decl {
	d := Decl{Out: twin.TypeDouble, Type: "number"}
	d.Scale = rapid.SampledFrom([]float64{1, 0.1, 0.01, 0.001, 2.5, -0.1, 10, 1e-6, 0.3, 7, 1000}).Draw(rt, "scale")
	d.Offset = rapid.SampledFrom([]float64{0, -273.15, 100, 0.5, 1e9}).Draw(rt, "offset")
	if rapid.Bool().Draw(rt, "int") {
		d.Out = twin.TypeInt
		d.Scale, d.Offset = math.Ceil(math.Abs(d.Scale)), math.Trunc(d.Offset)
	}
	return d
}

// What an instrument sends becomes a value, and the text of that value reads back as it.
func TestEveryTextSurvivesTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		format := text(rt, drawText(rt))
		sent := rapid.StringMatching(`[ ]{0,2}[+-]?[ ]{0,2}([0-9]{1,25}|[0-9]{0,12}\.[0-9]{1,12}|[0-9]\.[0-9]{3}E[+-][0-2][0-9])[ ]?`).Draw(rt, "text")
		v, quality := format.DecodeText(sent)
		if quality.IsBad() {
			require.Contains(rt, []twin.Quality{badFraction, badRange}, quality)
			require.True(rt, v.IsZero())
			return
		}
		again, held, err := format.EncodeText(v)
		require.NoError(rt, err)
		require.Equal(rt, v, held, "%q became %q", sent, again)
		require.Regexp(rt, `^-?[0-9]+(\.[0-9]+)?$`, again)
	})
}

// Without scale the nearest float64 is that of strconv, and with one that of exact arithmetic.
func TestTheNearestValueIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sent := rapid.StringMatching(`-?[0-9]{1,10}\.[0-9]{0,8}`).Draw(rt, "text")
		want, err := strconv.ParseFloat(sent, 64)
		require.NoError(rt, err)
		v, _ := text(rt, Decl{Out: twin.TypeDouble}).DecodeText(sent)
		require.Equal(rt, twin.FloatValue(want), v)
		s := newScaler(
			rapid.SampledFrom([]float64{0.1, -0.01, 2.5, 1e-6, 0.3, 1e12, 1e-20}).Draw(rt, "scale"),
			rapid.SampledFrom([]float64{0, -273.15, 1e14, -1e-9}).Draw(rt, "offset"),
		)
		d, body, ok := parseDecimal(sent)
		require.True(rt, ok)
		x, ok := s.ofDecimal(&d, body)
		require.True(rt, ok)
		exact, _ := s.exactOf(&d).Float64()
		require.Equal(rt, exact, x)
	})
}

func FuzzDecodeText(f *testing.F) {
	for i, sent := range []string{" +0012.50 ", "1.5E+03", "---", "nan", "FFFF", "ON", "S", "\xff\x00", "-9223372036854775808", "1e-9999", "FFFFFFFFFFFFFFFF"} {
		f.Add(uint8(i), sent)
		f.Add(uint8(6), sent) // hex, scaled
	}
	f.Fuzz(func(t *testing.T, kind uint8, sent string) {
		decls := []Decl{
			{Out: twin.TypeDouble},
			{Out: twin.TypeInt},
			{Out: twin.TypeDouble, Scale: 0.1, Offset: -273.15},
			{Out: twin.TypeInt, Scale: 3},
			{Out: twin.TypeDouble, Scale: 0.3},
			{Type: "hex", Out: twin.TypeInt},
			{Type: "hex", Out: twin.TypeDouble, Scale: 0.1},
			{Out: twin.TypeBoolean},
			{Out: twin.TypeString},
			{Out: twin.TypeBytes},
			{Out: twin.TypeString, Enum: map[string]string{"S": "stable"}},
			{Out: twin.TypeBoolean, Enum: map[string]string{"ON": "true"}},
		}
		d := decls[int(kind)%len(decls)]
		d.Sentinels = []twin.Value{twin.StringValue("OL")}
		format := text(t, d)
		v, quality := format.DecodeText(sent)
		require.True(t, quality.Valid())
		require.Equal(t, quality.IsBad(), v.IsZero())
		if v.IsZero() {
			return
		}
		again, held, err := format.EncodeText(v)
		require.NoError(t, err)
		x, number := v.AsFloat()
		if number && d.Scale != 0 && d.Out == twin.TypeDouble && (math.Abs(x) < 1e-30 || math.Abs(x) > 1e30) {
			return // more places than maxPlaces would be needed
		}
		require.True(t, held.Equal(v), "%q: %s became %q: %s", sent, v, again, held)
	})
}
