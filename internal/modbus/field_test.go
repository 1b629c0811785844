package modbus

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/pkg/twin"
)

// declared parses one property and requires that it is right.
func declared(t require.TestingT, typ twin.Type, visitor map[string]any) *Field {
	device := oneProperty(typ, visitor)
	decl, problems := Parse(&device)
	require.Empty(t, problems)
	return &decl.Fields[0]
}

func oneProperty(typ twin.Type, visitor map[string]any) twin.Device {
	return twin.Device{
		ID: twin.DeviceID{Namespace: "default", Name: "x"}, Config: map[string]any{"url": "tcp://x"},
		Properties: []twin.Property{{Name: "p", Type: typ, Writable: visitor["register"] == "holding" || visitor["register"] == "coil", Visitor: visitor}},
	}
}

func holding(extra ...any) map[string]any {
	v := map[string]any{"register": "holding", "address": 0}
	for i := 0; i < len(extra); i += 2 {
		v[extra[i].(string)] = extra[i+1]
	}
	return v
}

func TestDecode(t *testing.T) {
	data := []byte{0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0}
	big, word, bytes, little := uint64(0x123456789ABCDEF0), uint64(0xDEF09ABC56781234), uint64(0x34127856BC9AF0DE), uint64(0xF0DEBC9A78563412)
	for name, test := range map[string]struct {
		typ     twin.Type
		visitor map[string]any
		data    []byte
		want    twin.Value
		quality twin.Quality
	}{
		"uint16":            {twin.TypeInt, holding(), data, twin.IntValue(0x1234), ""},
		"uint16 BA":         {twin.TypeInt, holding("order", "BA"), data, twin.IntValue(0x3412), ""},
		"int16":             {twin.TypeInt, holding("type", "int16"), []byte{0xFF, 0xFE}, twin.IntValue(-2), ""},
		"uint32":            {twin.TypeInt, holding("type", "uint32"), data, twin.IntValue(0x12345678), ""},
		"uint32 BADC":       {twin.TypeInt, holding("type", "uint32", "order", "BADC"), data, twin.IntValue(0x34127856), ""},
		"uint32 CDAB":       {twin.TypeInt, holding("type", "uint32", "order", "CDAB"), data, twin.IntValue(0x56781234), ""},
		"uint32 DCBA":       {twin.TypeInt, holding("type", "uint32", "order", "DCBA"), data, twin.IntValue(0x78563412), ""},
		"uint64":            {twin.TypeInt, holding("type", "uint64"), data, twin.UintValue(big), ""},
		"uint64 BADC":       {twin.TypeInt, holding("type", "uint64", "order", "BADC"), data, twin.UintValue(bytes), ""},
		"uint64 CDAB":       {twin.TypeInt, holding("type", "uint64", "order", "CDAB"), data, twin.UintValue(word), ""},
		"uint64 DCBA":       {twin.TypeInt, holding("type", "uint64", "order", "DCBA"), data, twin.UintValue(little), ""},
		"uint64 spelled":    {twin.TypeInt, holding("type", "uint64", "order", "GHEFCDAB"), data, twin.UintValue(word), ""},
		"uint64 largest":    {twin.TypeInt, holding("type", "uint64"), []byte{255, 255, 255, 255, 255, 255, 255, 255}, twin.UintValue(math.MaxUint64), ""},
		"int64 smallest":    {twin.TypeInt, holding("type", "int64"), []byte{128, 0, 0, 0, 0, 0, 0, 0}, twin.IntValue(math.MinInt64), ""},
		"scaled":            {twin.TypeDouble, holding("scale", 0.1), []byte{0, 205}, twin.FloatValue(20.5), ""},
		"scaled, thirds":    {twin.TypeDouble, holding("scale", 0.1), []byte{0, 3}, twin.FloatValue(0.3), ""},
		"scaled and moved":  {twin.TypeDouble, holding("scale", 0.01, "offset", -273.15), []byte{0x75, 0x30}, twin.FloatValue(26.85), ""},
		"scaled whole":      {twin.TypeInt, holding("scale", 10, "offset", 5), []byte{0, 7}, twin.IntValue(75), ""},
		"scaled beyond":     {twin.TypeInt, holding("type", "int64", "scale", 1000), []byte{0x7F, 255, 255, 255, 255, 255, 255, 255}, twin.Value{}, "bad:range"},
		"int as double":     {twin.TypeDouble, holding(), []byte{0, 7}, twin.FloatValue(7), ""},
		"float32":           {twin.TypeFloat, holding("type", "float32"), []byte{0x41, 0xA0, 0xCC, 0xCD}, twin.FloatValue(20.1), ""},
		"float32 scaled":    {twin.TypeFloat, holding("type", "float32", "scale", 0.1), []byte{0x41, 0xA0, 0xCC, 0xCD}, twin.FloatValue(2.01), ""},
		"float32 NaN":       {twin.TypeFloat, holding("type", "float32"), []byte{0x7F, 0xC0, 0, 0}, twin.Value{}, "bad:nan"},
		"float64":           {twin.TypeDouble, holding("type", "float64"), []byte{0x40, 0x34, 0x19, 0x99, 0x99, 0x99, 0x99, 0x9A}, twin.FloatValue(20.1), ""},
		"float64 infinite":  {twin.TypeDouble, holding("type", "float64"), []byte{0x7F, 0xF0, 0, 0, 0, 0, 0, 0}, twin.Value{}, "bad:nan"},
		"bcd16":             {twin.TypeInt, holding("type", "bcd16"), []byte{0x12, 0x34}, twin.IntValue(1234), ""},
		"bcd16, no digit":   {twin.TypeInt, holding("type", "bcd16"), []byte{0x12, 0x3A}, twin.Value{}, "bad:bcd"},
		"bcd32":             {twin.TypeInt, holding("type", "bcd32", "order", "CDAB"), []byte{0x56, 0x78, 0x12, 0x34}, twin.IntValue(12345678), ""},
		"bit":               {twin.TypeBoolean, holding("bit", 4), data, twin.BoolValue(true), ""},
		"bit BA":            {twin.TypeBoolean, holding("bit", 4, "order", "BA"), data, twin.BoolValue(true), ""},
		"bit not":           {twin.TypeBoolean, holding("bit", 0), data, twin.BoolValue(false), ""},
		"text":              {twin.TypeString, holding("type", "string", "length", 3), []byte("abc  \x00"), twin.StringValue("abc"), ""},
		"text BA":           {twin.TypeString, holding("type", "string", "length", 2, "order", "BA"), []byte("badc"), twin.StringValue("abcd"), ""},
		"bytes":             {twin.TypeBytes, holding("type", "string", "length", 2), []byte{1, 2, 3, 0}, twin.StringValue("AQIDAA=="), ""},
		"sentinel":          {twin.TypeInt, holding("type", "int16", "sentinels", []any{"0x8000"}), []byte{0x80, 0}, twin.Value{}, "bad:sentinel"},
		"sentinel, signed":  {twin.TypeInt, holding("type", "int16", "sentinels", []any{-32768}), []byte{0x80, 0}, twin.Value{}, "bad:sentinel"},
		"sentinel, float":   {twin.TypeDouble, holding("type", "float32", "sentinels", []any{-999.0}), []byte{0xC4, 0x79, 0xC0, 0}, twin.Value{}, "bad:sentinel"},
		"no sentinel":       {twin.TypeInt, holding("type", "int16", "sentinels", []any{"0x8000"}), []byte{0x80, 1}, twin.IntValue(-32767), ""},
		"enum":              {twin.TypeString, holding("enum", map[string]any{"0": "off", "1": "on"}), []byte{0, 1}, twin.StringValue("on"), ""},
		"enum, unknown":     {twin.TypeString, holding("enum", map[string]any{"0": "off", "1": "on"}), []byte{0, 2}, twin.Value{}, "bad:enum"},
		"enum, negative":    {twin.TypeString, holding("type", "int16", "enum", map[string]any{"-1": "back"}), []byte{255, 255}, twin.StringValue("back"), ""},
		"coil":              {twin.TypeBoolean, map[string]any{"register": "coil", "address": 0}, []byte{1}, twin.BoolValue(true), ""},
		"coil named":        {twin.TypeString, map[string]any{"register": "coil", "address": 0, "enum": map[string]any{"0": "shut", "1": "open"}}, []byte{1}, twin.StringValue("open"), ""},
		"mappers-go int":    {twin.TypeInt, map[string]any{"register": "HoldingRegister", "offset": 0, "limit": 2, "scale": 1, "isRegisterSwap": true}, data, twin.IntValue(0x56781234), ""},
		"mappers-go scaled": {twin.TypeInt, map[string]any{"register": "InputRegister", "offset": 0, "limit": 1, "scale": 0.1}, []byte{0, 209}, twin.IntValue(20), ""},
		"mappers-go float":  {twin.TypeFloat, map[string]any{"register": "HoldingRegister", "offset": 0, "limit": 2, "isSwap": true, "isRegisterSwap": true}, []byte{0xCD, 0xCC, 0xA0, 0x41}, twin.FloatValue(20.1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := declared(t, test.typ, test.visitor)
			got, quality := f.Decode(test.data, 0)
			require.Equal(t, test.quality, quality)
			require.Equal(t, test.want, got)
		})
	}
}

func TestDecodeWithinABlock(t *testing.T) {
	f := declared(t, twin.TypeInt, holding("address", 7))
	v, _ := f.Decode([]byte{0, 1, 0, 2, 0, 3}, 2)
	require.Equal(t, twin.IntValue(3), v)
	coil := declared(t, twin.TypeBoolean, map[string]any{"register": "discrete", "address": 19})
	v, _ = coil.Decode([]byte{0, 0b0000_1000}, 11)
	require.Equal(t, twin.BoolValue(true), v)
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	for name, test := range map[string]struct {
		typ     twin.Type
		visitor map[string]any
		value   twin.Value
		want    string
	}{
		"too large":   {twin.TypeInt, holding(), twin.IntValue(65536), "write p: 65536 is beyond what uint16 holds: use 0 to 65535"},
		"negative":    {twin.TypeInt, holding(), twin.IntValue(-1), "write p: -1 is beyond what uint16 holds: use 0 to 65535"},
		"scaled":      {twin.TypeDouble, holding("type", "int16", "scale", 0.1), twin.FloatValue(3276.8), "write p: 3276.8 is beyond what int16 holds: use -3276.8 to 3276.7"},
		"upside down": {twin.TypeDouble, holding("scale", -0.5, "offset", 100), twin.FloatValue(101), "write p: 101 is beyond what uint16 holds: use -32667.5 to 100"},
		"float32":     {twin.TypeDouble, holding("type", "float32"), twin.FloatValue(1e39), "beyond what float32 holds"},
		"bcd":         {twin.TypeInt, holding("type", "bcd16"), twin.IntValue(10000), "use 0 to 9999"},
		"name":        {twin.TypeString, holding("enum", map[string]any{"0": "off", "1": "on"}), twin.StringValue("oof"), `write p: "oof" is not one of its names: use off, on`},
		"text":        {twin.TypeString, holding("type", "string", "length", 2), twin.StringValue("abcde"), "use at most 4 bytes"},
		"base64":      {twin.TypeBytes, holding("type", "string", "length", 2), twin.StringValue("?"), "is not base64"},
		"sentinel":    {twin.TypeInt, holding("sentinels", []any{7}), twin.IntValue(7), "write p: 7 would read back as bad:sentinel"},
		"kind":        {twin.TypeInt, holding(), twin.StringValue("x"), "is not a number"},
		"no boolean":  {twin.TypeBoolean, map[string]any{"register": "coil", "address": 0}, twin.IntValue(1), "is not a boolean"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := declared(t, test.typ, test.visitor).Encode(test.value)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestEncodeTellsTheNearestValue(t *testing.T) {
	f := declared(t, twin.TypeDouble, holding("type", "int16", "scale", 0.5))
	words, held, err := f.Encode(twin.FloatValue(-20.3))
	require.NoError(t, err)
	require.Equal(t, []uint16{0xFFD7}, words)
	require.Equal(t, twin.FloatValue(-20.5), held)
	f = declared(t, twin.TypeBoolean, holding("bit", 9, "order", "BA"))
	words, _, err = f.Encode(twin.BoolValue(true))
	require.NoError(t, err)
	mask, single := f.Mask()
	require.True(t, single)
	require.Equal(t, uint16(0x0002), mask)
	require.Equal(t, []uint16{0x0002}, words)
}

func drawVisitor(rt *rapid.T) (twin.Type, map[string]any) {
	kind := rapid.SampledFrom(typeNames()[1:11]).Draw(rt, "type")
	v := holding("type", kind)
	orders := []string{"ABCD", "BADC", "CDAB", "DCBA"}
	if kind[len(kind)-2:] == "16" {
		orders = []string{"AB", "BA"}
	}
	v["order"] = rapid.SampledFrom(orders).Draw(rt, "order")
	typ := twin.TypeInt
	if rapid.Bool().Draw(rt, "scaled") || kind == "float32" || kind == "float64" {
		typ = twin.TypeDouble
	}
	if typ == twin.TypeDouble && kind[len(kind)-2:] != "64" {
		v["scale"] = rapid.SampledFrom([]float64{1, 0.1, 0.01, 0.001, 2.5, -0.1, 10, 1e-6, 0.3}).Draw(rt, "scale")
		v["offset"] = rapid.SampledFrom([]float64{0, -273.15, 100, 0.5}).Draw(rt, "offset")
	}
	return typ, v
}

// What a register holds becomes a value, and that value written gives the same bits.
func TestEveryRegisterSurvivesTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		typ, visitor := drawVisitor(rt)
		f := declared(rt, typ, visitor)
		data := rapid.SliceOfN(rapid.Byte(), 2*int(f.Count), 2*int(f.Count)).Draw(rt, "data")
		v, quality := f.Decode(data, 0)
		if quality.IsBad() {
			require.True(rt, v.IsZero() && quality.Valid())
			return
		}
		words, held, err := f.Encode(v)
		if strings.HasPrefix(visitor["type"].(string), "float") {
			requireFloat(rt, visitor, v, held, err)
			return
		}
		require.NoError(rt, err)
		require.True(rt, held.Equal(v), "%s, %s", held, v)
		if typ == twin.TypeInt || f.Count < 4 {
			require.Equal(rt, wordsOf(data), words)
		}
	})
}

// requireFloat allows what a scaled float loses to rounding.
func requireFloat(rt *rapid.T, visitor map[string]any, v, held twin.Value, err error) {
	scale, scaled := visitor["scale"]
	offset, _ := visitor["offset"].(float64)
	if !scaled || (scale == 1.0 && offset == 0) {
		require.NoError(rt, err)
		require.Equal(rt, v, held)
		return
	}
	if err != nil {
		return // at the very end of the range, rounding may lead beyond it
	}
	a, _ := v.AsFloat()
	b, _ := held.AsFloat()
	require.InDelta(rt, a, b, 1e-6*(math.Abs(a)+math.Abs(offset))+1e-37)
}

func FuzzDecode(f *testing.F) {
	f.Add(uint8(3), uint8(1), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint8(7), uint8(2), []byte{0x7F, 0xC0, 0, 0, 0, 0, 0, 1})
	f.Add(uint8(10), uint8(0), []byte{0x9A, 0x99, 0, 0})
	f.Fuzz(func(t *testing.T, kind, order uint8, data []byte) {
		name := typeNames()[1+int(kind)%10]
		typ := twin.TypeDouble
		visitor := holding("type", name)
		if number.WidthOf(name) > 2 {
			visitor["order"] = number.RegisterOrders()[int(order)%4]
		}
		field := declared(t, typ, visitor)
		if len(data) < 2*int(field.Count) {
			return
		}
		v, quality := field.Decode(data, 0)
		require.True(t, quality.Valid())
		require.Equal(t, quality.IsBad(), v.IsZero())
		if v.IsZero() {
			return
		}
		require.Equal(t, twin.Float, v.Kind())
		_, held, err := field.Encode(v)
		if err == nil {
			require.True(t, held.Equal(v) || math.Abs(float(held)-float(v)) <= 1e-15*math.Abs(float(v)), "%s, %s", v, held)
		}
	})
}

func float(v twin.Value) float64 {
	f, _ := v.AsFloat()
	return f
}

// FuzzFraming throws bytes at what cuts and opens frames.
func FuzzFraming(f *testing.F) {
	f.Add([]byte{1, 3, 2, 0, 7, 0xF9, 0x86})
	f.Add([]byte(":010302000AF0\r\n"))
	f.Add(binary.BigEndian.AppendUint32(nil, 0x01830131))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, framing := range []framing{rtuFraming{}, asciiFraming{}} {
			skip, size, bad := framing.split(data)
			require.True(t, skip >= 0 && size >= 0 && skip+size <= len(data), fmt.Sprint(skip, size))
			if bad || size == 0 {
				continue
			}
			unit, function, body, ok := framing.open(data[skip : skip+size])
			if !ok {
				continue
			}
			want, err := shapeOf(function, body)
			if err == nil {
				want.answers(function, body)
			}
			_ = unit
		}
		if size, bad := mbapSize(data); !bad && size > 0 {
			require.LessOrEqual(t, size, maxMBAP)
		}
	})
}
