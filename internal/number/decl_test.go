package number

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// keys is what a driver decodes the Fields into.
type keys struct {
	Type      string            `key:"type"`
	Order     string            `key:"order"`
	Scale     float64           `key:"scale"`
	Offset    float64           `key:"offset"`
	Enum      map[string]string `key:"enum"`
	Sentinels []twin.Value      `key:"sentinels"`
	Deadband  float64           `key:"deadband"`
}

func TestFieldsAreATable(t *testing.T) {
	table := schema.Table{Title: "a value", Fields: Fields(append(BinaryTypes(), TextTypes()...))}
	var k keys
	require.NoError(t, table.Check(&k))
	require.Empty(t, table.Decode("", "", map[string]any{}, &k))
	require.Equal(t, keys{Scale: 1}, k)
	require.Len(t, table.Decode("", "", map[string]any{"deadband": -0.1, "order": "x", "type": "uint12"}, &k), 3)
	types := table.Fields[0].Enum
	require.Len(t, types, len(BinaryTypes())+2, "bool and string are named once")
}

func TestMistakes(t *testing.T) {
	value := func(v twin.Value) []twin.Value { return []twin.Value{v} }
	names := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for name, test := range map[string]struct {
		text bool
		decl Decl
		want string
	}{
		"no type":            {false, Decl{Out: twin.TypeInt}, `type: "" is not one of its values; use one of bool, int8, `},
		"text type":          {false, Decl{Type: "hex", Out: twin.TypeInt}, `type: "hex" is not one of its values; use one of bool, int8, `},
		"binary type":        {true, Decl{Type: "uint8", Out: twin.TypeInt}, `type: "uint8" is not one of its values; use one of number, hex, bool, string`},
		"order of 8":         {false, Decl{Type: "uint8", Out: twin.TypeInt, Order: "little"}, "order: a uint8 of single bytes has none; leave it out"},
		"order of 16":        {false, Decl{Type: "uint16", Out: twin.TypeInt, Order: "ABCD"}, `order: "ABCD" is no order of uint16; use AB or BA, or big or little`},
		"order of 24":        {false, Decl{Type: "uint24", Out: twin.TypeInt, Order: "ABB"}, `order: "ABB" is no order of uint24; use ABC or CBA, or big or little`},
		"order of 48":        {false, Decl{Type: "uint48", Out: twin.TypeInt, Order: "ABCDEG"}, `order: "ABCDEG" is no order of uint48; use ABCD, BADC, CDAB, DCBA, or the six letters`},
		"device's order":     {false, Decl{Type: "uint24", Out: twin.TypeInt, Base: Order{swapWords: true}}, "order: the device's order is none of uint24, whose 3 bytes are no words; write the property's own: use ABC or CBA, or big or little"},
		"order of a string":  {false, Decl{Type: "string", Out: twin.TypeString, Order: "BA"}, "order: a string of single bytes has none"},
		"order of text":      {true, Decl{Out: twin.TypeInt, Order: "big"}, "order: text has no order of bytes; leave it out"},
		"bit of a number":    {false, Decl{Type: "uint8", Out: twin.TypeInt, Bit: new(1)}, "bit: only a bool is a single bit; leave it out, or use type: bool"},
		"bit of text":        {true, Decl{Out: twin.TypeBoolean, Bit: new(1)}, "bit: text has no bits; leave it out"},
		"bit beyond":         {false, Decl{Type: "bool", Out: twin.TypeBoolean, Bit: new(8)}, "bit: 8 is beyond its 8 bits; use 0 to 7, 0 the least significant"},
		"scale 0":            {true, Decl{Out: twin.TypeDouble, Scale: math.Copysign(0, -1)}, "scale: 0 makes every value the same; use the factor between the text and the value, such as 0.1; leave it out for 1"},
		"scale beyond":       {true, Decl{Out: twin.TypeDouble, Scale: 1e31}, "scale: scale 1e+31 with offset 0 is beyond any unit"},
		"scale of a bool":    {true, Decl{Out: twin.TypeBoolean, Scale: 2}, "scale: a bool has none; leave out scale and offset"},
		"scale, INT":         {true, Decl{Out: twin.TypeInt, Scale: 0.1}, "scale: it gives values with a fraction, but the property is INT; declare the property's type as DOUBLE or FLOAT"},
		"offset, INT":        {true, Decl{Type: "hex", Out: twin.TypeInt, Offset: 0.5}, "scale: it gives values with a fraction"},
		"number as text":     {true, Decl{Type: "number", Out: twin.TypeString}, "type: number does not fit the property's type STRING; declare the property's type as INT, FLOAT or DOUBLE"},
		"number as boolean":  {true, Decl{Type: "number", Out: twin.TypeBoolean}, "or use type: bool"},
		"string as number":   {true, Decl{Type: "string", Out: twin.TypeInt}, "type: string does not fit the property's type INT; declare the property's type as STRING or BYTES"},
		"bits as boolean":    {false, Decl{Type: "uint8", Out: twin.TypeBoolean}, "declare the property's type as INT, FLOAT or DOUBLE, or use type: bool with bit"},
		"enum of floats":     {false, Decl{Type: "float32", Out: twin.TypeDouble, Enum: names("1", "a")}, "enum: float32 holds no integers to name"},
		"enum, scaled":       {false, Decl{Type: "uint8", Out: twin.TypeString, Scale: 2, Enum: names("1", "a")}, "scale: it stands beside enum; leave out scale and offset: names go by what the device holds"},
		"enum, empty":        {false, Decl{Type: "uint8", Out: twin.TypeString, Enum: names()}, "enum: empty"},
		"enum, key":          {false, Decl{Type: "bcd8", Out: twin.TypeString, Enum: names("100", "a")}, `enum: "100" is not a value of bcd8`},
		"enum of a number":   {true, Decl{Type: "number", Out: twin.TypeDouble, Enum: names("1", "a")}, "enum: only a text is looked up by name, not a number; use type: string, or leave type out"},
		"enum of an INT":     {true, Decl{Out: twin.TypeInt, Enum: names("1", "a")}, "enum: names are texts, but the property is INT; declare the property's type as STRING, or as BOOLEAN with the names true and false"},
		"enum, text twice":   {true, Decl{Out: twin.TypeString, Enum: names("S", "a", " S", "b")}, `enum: "S: a" is there twice; use each number and each name once`},
		"enum, name twice":   {true, Decl{Out: twin.TypeString, Enum: names("S", "a", "T", "a")}, `enum: "T: a" is there twice`},
		"enum, boolean":      {true, Decl{Out: twin.TypeBoolean, Enum: names("ON", "yes")}, `enum: "yes" is no boolean; write "true" and "false" as names`},
		"enum, empty text":   {true, Decl{Out: twin.TypeString, Enum: names()}, `enum: empty; write the texts as keys, such as "S": "stable"`},
		"sentinel":           {false, Decl{Type: "uint8", Out: twin.TypeInt, Sentinels: value(twin.IntValue(256))}, "sentinels[0]: 256 is nothing that uint8 can hold; write what the device holds before scaling, such as 0x8000 or -32768"},
		"sentinel of a bool": {false, Decl{Type: "bool", Out: twin.TypeBoolean, Sentinels: value(twin.IntValue(1))}, "sentinels: a bool has none; leave them out"},
		"sentinel, yes":      {true, Decl{Out: twin.TypeInt, Sentinels: value(twin.BoolValue(true))}, `sentinels[0]: true is nothing that number can hold; write it in quotes as it is sent, such as "OL", or as a number`},
		"sentinel, hex":      {true, Decl{Type: "hex", Out: twin.TypeInt, Sentinels: value(twin.FloatValue(0.5))}, "sentinels[0]: 0.5 is nothing that hex can hold"},
		"deadband":           {true, Decl{Out: twin.TypeString, Deadband: 1}, "deadband: a STRING has none; leave it out: it is for INT, FLOAT and DOUBLE"},
		"deadband, negative": {true, Decl{Out: twin.TypeInt, Deadband: -1}, "deadband: -1 is no distance; use a number from 0 on"},
	} {
		t.Run(name, func(t *testing.T) {
			var said []string
			wrong := func(key, what, remedy string) { said = append(said, key+": "+what+"; "+remedy) }
			if test.decl.Scale == 0 && !math.Signbit(test.decl.Scale) {
				test.decl.Scale = 1
			}
			make := NewBinary
			if test.text {
				make = NewText
			}
			_, ok := make(test.decl, wrong)
			require.False(t, ok)
			require.NotEmpty(t, said)
			require.Contains(t, said[0], test.want)
		})
	}
}

func TestLenient(t *testing.T) {
	f := binary(t, Decl{Type: "uint8", Out: twin.TypeInt, Scale: 0.1, Lenient: true})
	v, _ := f.Decode([]byte{209})
	require.Equal(t, twin.IntValue(20), v)
	f = binary(t, Decl{Type: "bool", Out: twin.TypeBoolean, Scale: 0.1, Lenient: true})
	v, _ = f.Decode([]byte{1})
	require.Equal(t, twin.BoolValue(true), v)
}

func TestPath(t *testing.T) {
	require.Equal(t, "spec.x.scale", Path("spec.x", "scale"))
	require.Equal(t, "spec.x.sentinels[3]", Path("spec.x", "sentinels[3]"))
	require.Equal(t, "sentinels[3]", Path("", "sentinels[3]"))
}
