package number

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

// refuse is the wrong of declarations that are right.
func refuse(t require.TestingT) func(key, what, remedy string) {
	return func(key, what, remedy string) { require.Fail(t, key+": "+what+"; "+remedy) }
}

// binary makes a Format of a Decl that is right.
func binary(t require.TestingT, d Decl) *Format {
	if d.Scale == 0 {
		d.Scale = 1
	}
	f, ok := NewBinary(d, refuse(t))
	require.True(t, ok)
	return &f
}

func TestDecode(t *testing.T) {
	data := []byte{0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0}
	all := []byte{255, 255, 255, 255, 255, 255, 255, 255}
	little := Order{swapBytes: true, swapWords: true}
	for name, test := range map[string]struct {
		decl    Decl
		data    []byte
		want    twin.Value
		quality twin.Quality
	}{
		"int8":                {Decl{Type: "int8", Out: twin.TypeInt}, all, twin.IntValue(-1), ""},
		"uint8":               {Decl{Type: "uint8", Out: twin.TypeInt}, all, twin.IntValue(255), ""},
		"uint8, little":       {Decl{Type: "uint8", Out: twin.TypeInt, Base: little}, data, twin.IntValue(0x12), ""},
		"uint16 big":          {Decl{Type: "uint16", Out: twin.TypeInt, Order: "big"}, data, twin.IntValue(0x1234), ""},
		"uint16 little":       {Decl{Type: "uint16", Out: twin.TypeInt, Order: "Little"}, data, twin.IntValue(0x3412), ""},
		"uint24":              {Decl{Type: "uint24", Out: twin.TypeInt}, data, twin.IntValue(0x123456), ""},
		"uint24 little":       {Decl{Type: "uint24", Out: twin.TypeInt, Base: little}, data, twin.IntValue(0x563412), ""},
		"uint24 spelled":      {Decl{Type: "uint24", Out: twin.TypeInt, Order: "BCA"}, data, twin.IntValue(0x561234), ""},
		"int24":               {Decl{Type: "int24", Out: twin.TypeInt}, all, twin.IntValue(-1), ""},
		"int24, smallest":     {Decl{Type: "int24", Out: twin.TypeInt}, []byte{0x80, 0, 0}, twin.IntValue(-1 << 23), ""},
		"uint32 little":       {Decl{Type: "uint32", Out: twin.TypeInt, Order: "little"}, data, twin.IntValue(0x78563412), ""},
		"uint48":              {Decl{Type: "uint48", Out: twin.TypeInt}, data, twin.IntValue(0x123456789ABC), ""},
		"uint48 little":       {Decl{Type: "uint48", Out: twin.TypeInt, Order: "little"}, data, twin.IntValue(0xBC9A78563412), ""},
		"uint48 CDAB":         {Decl{Type: "uint48", Out: twin.TypeInt, Order: "CDAB"}, data, twin.IntValue(0x9ABC56781234), ""},
		"uint48 spelled":      {Decl{Type: "uint48", Out: twin.TypeInt, Order: "FEDCBA"}, data, twin.IntValue(0xBC9A78563412), ""},
		"int48, smallest":     {Decl{Type: "int48", Out: twin.TypeInt}, []byte{0x80, 0, 0, 0, 0, 0}, twin.IntValue(-1 << 47), ""},
		"uint64 little":       {Decl{Type: "uint64", Out: twin.TypeInt, Order: "little"}, data, twin.UintValue(0xF0DEBC9A78563412), ""},
		"uint64 largest":      {Decl{Type: "uint64", Out: twin.TypeInt}, all, twin.UintValue(math.MaxUint64), ""},
		"bcd8":                {Decl{Type: "bcd8", Out: twin.TypeInt}, []byte{0x42}, twin.IntValue(42), ""},
		"bcd24 little":        {Decl{Type: "bcd24", Out: twin.TypeInt, Order: "little"}, []byte{0x56, 0x34, 0x12}, twin.IntValue(123456), ""},
		"bcd48 scaled":        {Decl{Type: "bcd48", Out: twin.TypeDouble, Scale: 0.001}, []byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12}, twin.FloatValue(123456789.012), ""},
		"bcd, no digit":       {Decl{Type: "bcd8", Out: twin.TypeInt}, []byte{0x4A}, twin.Value{}, "bad:bcd"},
		"float32 little":      {Decl{Type: "float32", Out: twin.TypeFloat, Order: "little"}, []byte{0xCD, 0xCC, 0xA0, 0x41}, twin.FloatValue(20.1), ""},
		"bool, any":           {Decl{Type: "bool", Out: twin.TypeBoolean}, []byte{0xFF}, twin.BoolValue(true), ""},
		"bool, none":          {Decl{Type: "bool", Out: twin.TypeBoolean}, []byte{0}, twin.BoolValue(false), ""},
		"bool, bit":           {Decl{Type: "bool", Out: twin.TypeBoolean, Bit: new(7)}, []byte{0x80}, twin.BoolValue(true), ""},
		"bool, named":         {Decl{Type: "bool", Out: twin.TypeString, Enum: map[string]string{"0": "shut", "1": "open"}}, []byte{0xFF}, twin.StringValue("open"), ""},
		"bit of a word":       {Decl{Type: "bool", Out: twin.TypeBoolean, Bit: new(9), Word: 4, Order: "little"}, []byte{0, 2, 0, 0}, twin.BoolValue(true), ""},
		"named":               {Decl{Type: "int8", Out: twin.TypeString, Enum: map[string]string{"-1": "back"}}, all, twin.StringValue("back"), ""},
		"string":              {Decl{Type: "string", Out: twin.TypeString}, []byte(" ab \x00x"), twin.StringValue(" ab"), ""},
		"string, empty":       {Decl{Type: "string", Out: twin.TypeString}, nil, twin.StringValue(""), ""},
		"string of registers": {Decl{Type: "string", Out: twin.TypeString, Word: 2, Order: "BA"}, []byte("badc"), twin.StringValue("abcd"), ""},
		"bytes":               {Decl{Type: "string", Out: twin.TypeBytes}, []byte{1, 2, 3, 0}, twin.StringValue("AQIDAA=="), ""},
		"too long a string":   {Decl{Type: "string", Out: twin.TypeString}, make([]byte, twin.MaxStringValue), twin.StringValue(""), ""},
		"too many bytes":      {Decl{Type: "string", Out: twin.TypeBytes}, make([]byte, twin.MaxStringValue), twin.Value{}, "bad:range"},
		"short":               {Decl{Type: "uint24", Out: twin.TypeInt}, []byte{1, 2}, twin.Value{}, "bad:short"},
		"sentinel":            {Decl{Type: "uint24", Out: twin.TypeInt, Sentinels: []twin.Value{twin.StringValue("0xFFFFFF")}}, all, twin.Value{}, "bad:sentinel"},
		"sentinel, signed":    {Decl{Type: "int24", Out: twin.TypeInt, Sentinels: []twin.Value{twin.StringValue("0x800000")}}, []byte{0x80, 0, 0}, twin.Value{}, "bad:sentinel"},
		"sentinel, bcd":       {Decl{Type: "bcd8", Out: twin.TypeInt, Sentinels: []twin.Value{twin.StringValue("0xEE"), twin.IntValue(99)}}, []byte{0xEE}, twin.Value{}, "bad:sentinel"},
	} {
		t.Run(name, func(t *testing.T) {
			f := binary(t, test.decl)
			got, quality := f.Decode(test.data)
			require.Equal(t, test.quality, quality)
			require.Equal(t, test.want, got)
		})
	}
}

func TestWidth(t *testing.T) {
	for typ, want := range map[string]int{"bool": 1, "uint24": 3, "bcd48": 6, "float64": 8, "string": 0} {
		out := map[string]twin.Type{"bool": twin.TypeBoolean, "string": twin.TypeString}[typ]
		if out == "" {
			out = twin.TypeDouble
		}
		require.Equal(t, want, binary(t, Decl{Type: typ, Out: out}).Width(), typ)
		require.Equal(t, want, WidthOf(typ), typ)
	}
	require.Zero(t, text(t, Decl{Out: twin.TypeInt}).Width())
	require.Zero(t, WidthOf("uint12"))
}

func TestEncodeAtTheBounds(t *testing.T) {
	for name, test := range map[string]struct {
		decl  Decl
		value twin.Value
		data  []byte
		wrong string
	}{
		"int8, smallest":    {Decl{Type: "int8", Out: twin.TypeInt}, twin.IntValue(-128), []byte{0x80}, ""},
		"int8, below":       {Decl{Type: "int8", Out: twin.TypeInt}, twin.IntValue(-129), nil, "-129 is beyond what int8 holds: use -128 to 127"},
		"uint24, largest":   {Decl{Type: "uint24", Out: twin.TypeInt, Order: "CBA"}, twin.IntValue(1<<24 - 2), []byte{0xFE, 0xFF, 0xFF}, ""},
		"uint24, above":     {Decl{Type: "uint24", Out: twin.TypeInt}, twin.IntValue(1 << 24), nil, "use 0 to 16777215"},
		"bcd48, largest":    {Decl{Type: "bcd48", Out: twin.TypeInt}, twin.IntValue(999999999999), []byte{0x99, 0x99, 0x99, 0x99, 0x99, 0x99}, ""},
		"bcd48, above":      {Decl{Type: "bcd48", Out: twin.TypeInt}, twin.IntValue(1000000000000), nil, "use 0 to 999999999999"},
		"uint64, largest":   {Decl{Type: "uint64", Out: twin.TypeInt}, twin.UintValue(math.MaxUint64), []byte{255, 255, 255, 255, 255, 255, 255, 255}, ""},
		"float64, beyond":   {Decl{Type: "float64", Out: twin.TypeDouble, Scale: 1e-30}, twin.FloatValue(1e300), nil, "is beyond what float64 holds"},
		"string":            {Decl{Type: "string", Out: twin.TypeString}, twin.StringValue("abc"), []byte("abc"), ""},
		"string, filled":    {Decl{Type: "string", Out: twin.TypeString, Length: 5}, twin.StringValue("abc"), []byte("abc\x00\x00"), ""},
		"string, exactly":   {Decl{Type: "string", Out: twin.TypeString, Length: 3}, twin.StringValue("abc"), []byte("abc"), ""},
		"string, too long":  {Decl{Type: "string", Out: twin.TypeString, Length: 2}, twin.StringValue("abc"), nil, "3 bytes do not fit its 2 bytes: use at most 2 bytes"},
		"registers":         {Decl{Type: "string", Out: twin.TypeString, Word: 2, Order: "BA"}, twin.StringValue("abc"), []byte("ba\x00c"), ""},
		"registers, too":    {Decl{Type: "string", Out: twin.TypeString, Word: 2, Length: 2}, twin.StringValue("abc"), nil, "3 bytes do not fit its 1 registers: use at most 2 bytes"},
		"bit of a word":     {Decl{Type: "bool", Out: twin.TypeBoolean, Bit: new(9), Word: 2, Order: "BA"}, twin.BoolValue(true), []byte{0, 2}, ""},
		"bool":              {Decl{Type: "bool", Out: twin.TypeBoolean}, twin.BoolValue(true), []byte{1}, ""},
		"name":              {Decl{Type: "bcd8", Out: twin.TypeString, Enum: map[string]string{"12": "noon"}}, twin.StringValue("noon"), []byte{0x12}, ""},
		"sentinel":          {Decl{Type: "int8", Out: twin.TypeInt, Sentinels: []twin.Value{twin.IntValue(-1)}}, twin.IntValue(-1), nil, "-1 would read back as bad:sentinel"},
		"not a number":      {Decl{Type: "int8", Out: twin.TypeInt}, twin.StringValue("x"), nil, "x is not a number"},
		"not a boolean":     {Decl{Type: "bool", Out: twin.TypeBoolean}, twin.IntValue(1), nil, "1 is not a boolean"},
		"no text":           {Decl{Type: "string", Out: twin.TypeString}, twin.IntValue(1), nil, "1 is not a text"},
		"negative, in bits": {Decl{Type: "int24", Out: twin.TypeInt, Order: "little"}, twin.IntValue(-2), []byte{0xFE, 0xFF, 0xFF}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := binary(t, test.decl)
			data, held, err := f.Encode(test.value)
			if test.wrong != "" {
				require.ErrorContains(t, err, test.wrong)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.data, data)
			require.Equal(t, test.value, held)
		})
	}
	require.Equal(t, []byte{0, 2}, binary(t, Decl{Type: "bool", Out: twin.TypeBoolean, Bit: new(9), Word: 2, Order: "BA"}).Mask())
	require.Nil(t, binary(t, Decl{Type: "bool", Out: twin.TypeBoolean, Word: 2}).Mask())
}

// drawBinary draws a declaration of a number in bytes.
func drawBinary(rt *rapid.T) Decl {
	typ := rapid.SampledFrom(binaryForms()[1:20]).Draw(rt, "type")
	d := Decl{Type: typ.name, Out: twin.TypeInt, Scale: 1}
	if typ.width > 1 {
		orders := []string{"", "big", "little"}
		if typ.width%4 == 0 {
			orders = append(orders, RegisterOrders()...)
		}
		d.Order = rapid.SampledFrom(orders).Draw(rt, "order")
	}
	if typ.kind == float || rapid.Bool().Draw(rt, "scaled") {
		d.Out = twin.TypeDouble
		if typ.width < 8 && typ.kind != float {
			d.Scale = rapid.SampledFrom([]float64{1, 0.1, 0.01, 0.001, 2.5, -0.1, 10, 1e-6, 0.3}).Draw(rt, "scale")
			d.Offset = rapid.SampledFrom([]float64{0, -273.15, 100, 0.5}).Draw(rt, "offset")
		}
	}
	return d
}

// What a device holds becomes a value, and that value written gives the same bits.
func TestEveryNumberSurvivesTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := drawBinary(rt)
		f := binary(rt, d)
		data := rapid.SliceOfN(rapid.Byte(), f.Width(), f.Width()).Draw(rt, "data")
		v, quality := f.Decode(data)
		if quality.IsBad() {
			require.True(rt, v.IsZero() && quality.Valid())
			return
		}
		again, held, err := f.Encode(v)
		require.NoError(rt, err)
		require.True(rt, held.Equal(v), "%s, %s", held, v)
		if f.kind != float && (d.Out == twin.TypeInt || f.Width() < 7) { // a float has two zeros
			require.Equal(rt, data, again)
		}
	})
}

func TestEveryOrderIsAPermutation(t *testing.T) {
	for width := 1; width <= 8; width++ {
		for _, name := range append(RegisterOrders(), "big", "little", "AB", "BA", "ABC", "CAB", "FEDCBA", "BADCFEHG", "ABCDEFGG", "ACBD", "XY", "", "abc") {
			p, ok := permOf(name, width)
			if !ok {
				continue
			}
			seen := 0
			for _, i := range p[:width] {
				seen |= 1 << i
			}
			require.Equal(t, 1<<width-1, seen, "%s of %d bytes", name, width)
		}
	}
	_, ok := permOf("ABCDEFGG", 8)
	require.False(t, ok)
	_, ok = permOf("BADC", 3)
	require.False(t, ok)
}

func TestOrderOf(t *testing.T) {
	for _, name := range append(RegisterOrders(), ByteOrders()...) {
		_, ok := OrderOf(name)
		require.True(t, ok, name)
	}
	little, _ := OrderOf("little")
	require.Equal(t, NewOrder(true, true), little)
	_, ok := OrderOf("middle")
	require.False(t, ok)
}

func FuzzDecode(f *testing.F) {
	f.Add(uint8(3), uint8(1), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint8(13), uint8(2), []byte{0x7F, 0xC0, 0, 0, 0, 0, 0, 1})
	f.Add(uint8(19), uint8(0), []byte{0x9A, 0x99, 0, 0})
	f.Add(uint8(20), uint8(0), []byte("text\x00"))
	f.Fuzz(func(t *testing.T, kind, order uint8, data []byte) {
		typ := binaryForms()[int(kind)%len(binaryForms())]
		d := Decl{Type: typ.name, Out: twin.TypeDouble, Base: []Order{{}, {true, true}}[order%2], Sentinels: []twin.Value{twin.IntValue(7)}}
		switch typ.kind {
		case boolean:
			d.Out, d.Sentinels = twin.TypeBoolean, nil
		case str:
			d.Out, d.Sentinels = []twin.Type{twin.TypeString, twin.TypeBytes}[order/2%2], nil
		}
		format := binary(t, d)
		v, quality := format.Decode(data)
		require.True(t, quality.Valid())
		require.Equal(t, quality.IsBad(), v.IsZero())
		if v.IsZero() {
			return
		}
		_, held, err := format.Encode(v)
		if err == nil { // what is not UTF-8 may grow in the value
			require.True(t, held.Equal(v), "%s, %s", v, held)
		}
	})
}
