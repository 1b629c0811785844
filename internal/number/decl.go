package number

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// Decl is what a visitor declares of a value: the keys of Fields as schema has
// decoded them, and what the driver knows besides.
type Decl struct {
	Type      string // of BinaryTypes or TextTypes; "" for text: it follows from Out
	Order     string // "": Base holds
	Bit       *int   // of a binary bool; nil: all of the word, 0 is false and all else true
	Scale     float64
	Offset    float64
	Enum      map[string]string
	Sentinels []twin.Value
	Deadband  float64 // only checked here: see twin.Property

	Out     twin.Type // the declared type of the property
	Base    Order     // of the device; binary
	Word    int       // bytes of the device's word, of which a bool is a bit and within which the bytes of a string have an order: 2 for registers; 0: 1
	Length  int       // bytes of a binary string; 0: any
	Lenient bool      // as in mappers-go: the scale of booleans and strings is ignored, and an INT loses its decimals
}

// check is one Decl being checked.
type check struct {
	*Decl
	wrong func(key, what, remedy string)
	f     Format
	bad   bool
}

// NewBinary checks a Decl of a value that is held in bytes. wrong is called for
// each mistake with the key, what is wrong and how to mend it; a sentinel's key has its index, see Path. ok is
// false when there was one.
func NewBinary(d Decl, wrong func(key, what, remedy string)) (f Format, ok bool) {
	return newFormat(d, binaryForms(), false, wrong)
}

// NewText is NewBinary for a value that is sent as text. A Decl without Type is
// a number for INT, FLOAT and DOUBLE, a bool for BOOLEAN, and a string for STRING, BYTES and where there is
// an Enum. Bit, Base, Word, Length and Lenient are for binary values.
func NewText(d Decl, wrong func(key, what, remedy string)) (f Format, ok bool) {
	d.Type = cmp.Or(d.Type, textType(&d))
	return newFormat(d, textForms(), true, wrong)
}

func textType(d *Decl) string {
	switch {
	case d.Enum != nil:
		return "string"
	case isNumber(d.Out):
		return "number"
	case d.Out == twin.TypeBoolean:
		return "bool"
	}
	return "string"
}

func isNumber(t twin.Type) bool {
	return t == twin.TypeInt || t == twin.TypeFloat || t == twin.TypeDouble
}

func newFormat(d Decl, forms []form, textual bool, wrong func(key, what, remedy string)) (Format, bool) {
	c := check{Decl: &d}
	c.wrong = func(key, what, remedy string) {
		c.bad = true
		wrong(key, what, remedy)
	}
	typ, ok := formOf(forms, d.Type)
	if !ok {
		c.wrong("type", fmt.Sprintf("%.40q is not one of its values", d.Type), "use one of "+strings.Join(namesOf(forms), ", "))
		return Format{}, false
	}
	c.f = Format{form: typ, textual: textual, out: d.Out, word: max(1, d.Word), bit: -1, size: d.Length}
	if c.f.kind == boolean && !textual {
		c.f.width = c.f.word
	}
	c.order()
	c.whichBit()
	c.scaling()
	c.names()
	c.noValues()
	c.fits()
	c.band()
	return c.f, !c.bad
}

func (c *check) order() {
	if c.f.textual {
		if c.Order != "" {
			c.wrong("order", "text has no order of bytes", "leave it out")
		}
		return
	}
	width := cmp.Or(c.f.width, c.f.word)
	var ok bool
	switch {
	case c.Order == "":
		if c.f.places, ok = c.Base.perm(width); !ok {
			c.wrong("order", fmt.Sprintf("the device's order is none of %s, whose %d bytes are no words", c.f.name, width), "write the property's own: use "+ordersFor(width))
		}
	case width == 1:
		c.wrong("order", fmt.Sprintf("a %s of single bytes has none", c.f.name), "leave it out")
	default:
		if c.f.places, ok = permOf(c.Order, width); !ok {
			c.wrong("order", fmt.Sprintf("%q is no order of %s", c.Order, c.f.name), "use "+ordersFor(width))
		}
	}
}

func (c *check) whichBit() {
	switch {
	case c.Bit == nil:
	case c.f.textual:
		c.wrong("bit", "text has no bits", "leave it out")
	case c.f.kind != boolean:
		c.wrong("bit", "only a bool is a single bit", "leave it out, or use type: bool")
	case *c.Bit < 0 || *c.Bit >= 8*c.f.width:
		c.wrong("bit", fmt.Sprintf("%d is beyond its %d bits", *c.Bit, 8*c.f.width), fmt.Sprintf("use 0 to %d, 0 the least significant", 8*c.f.width-1))
	default:
		c.f.bit = *c.Bit
	}
}

func (c *check) scaling() {
	scale, offset := c.Scale, c.Offset
	c.f.scale = newScaler(1, 0)
	switch {
	case scale == 0:
		c.wrong("scale", "0 makes every value the same", "use the factor between the "+c.holder()+" and the value, such as 0.1; leave it out for 1")
		return
	case math.Abs(scale) < 1e-30 || math.Abs(scale) > 1e30 || math.Abs(offset) > 1e30:
		c.wrong("scale", fmt.Sprintf("scale %g with offset %g is beyond any unit", scale, offset), "use a scale from 1e-30 to 1e30 and an offset up to 1e30")
		return
	}
	if c.f.numeric() {
		c.f.scale = newScaler(scale, offset)
		return
	}
	if (scale != 1 || offset != 0) && !c.Lenient {
		c.wrong("scale", fmt.Sprintf("a %s has none", c.f.name), "leave out scale and offset")
	}
}

// holder names what holds the value.
func (c *check) holder() string {
	switch {
	case c.f.textual:
		return "text"
	case c.f.word == 2:
		return "register"
	}
	return "device"
}

func (c *check) names() {
	f := &c.f
	if c.Enum == nil {
		return
	}
	if f.textual {
		c.textNames()
		return
	}
	switch {
	case !f.integral() && f.kind != boolean:
		c.wrong("enum", fmt.Sprintf("%s holds no integers to name", f.name), "leave it out, or use an integer type or bool")
		return
	case !f.scale.identity:
		c.wrong("scale", "it stands beside enum", "leave out scale and offset: names go by what the "+c.holder()+" holds")
		return
	case f.out != twin.TypeString:
		c.wrong("enum", fmt.Sprintf("names are texts, but the property is %s", f.out), "declare the property's type as STRING")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(c.Enum)) {
		raw, ok := f.parse(key)
		if !ok {
			c.wrong("enum", fmt.Sprintf("%.40q is not a value of %s", key, f.name), `write the integers as keys, such as "0": "off"`)
		}
		c.name(key, ok, entry{raw: raw, name: twin.StringValue(c.Enum[key])})
	}
	if len(f.enum) == 0 {
		c.wrong("enum", "empty", `write the integers as keys, such as "0": "off"`)
	}
}

// name adds an entry; ok is false where its key is wrong already.
func (c *check) name(key string, ok bool, e entry) {
	twice := func(o entry) bool { return (o.raw == e.raw && o.text == e.text) || o.name == e.name }
	if ok && slices.ContainsFunc(c.f.enum, twice) {
		c.wrong("enum", fmt.Sprintf("%.40q is there twice", key+": "+c.Enum[key]), "use each number and each name once")
	}
	c.f.enum = append(c.f.enum, e)
}

// textNames reads an enum whose keys are texts.
func (c *check) textNames() {
	f := &c.f
	switch {
	case f.kind != str:
		c.wrong("enum", "only a text is looked up by name, not a "+f.name, "use type: string, or leave type out")
		return
	case f.out != twin.TypeString && f.out != twin.TypeBoolean:
		c.wrong("enum", fmt.Sprintf("names are texts, but the property is %s", f.out), "declare the property's type as STRING, or as BOOLEAN with the names true and false")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(c.Enum)) {
		e := entry{text: strings.Trim(key, fill), name: twin.StringValue(c.Enum[key])}
		ok := true
		if f.out == twin.TypeBoolean {
			e.name = twin.BoolValue(c.Enum[key] == "true")
			if ok = c.Enum[key] == "true" || c.Enum[key] == "false"; !ok {
				c.wrong("enum", fmt.Sprintf("%.40q is no boolean", c.Enum[key]), `write "true" and "false" as names, such as "ON": "true"`)
			}
		}
		c.name(key, ok, e)
	}
	if len(f.enum) == 0 {
		c.wrong("enum", "empty", `write the texts as keys, such as "S": "stable"`)
	}
}

// noValues reads the sentinels.
func (c *check) noValues() {
	f := &c.f
	if len(c.Sentinels) > 0 && !f.textual && !f.numeric() {
		c.wrong("sentinels", fmt.Sprintf("a %s has none", f.name), "leave them out")
		return
	}
	for i, v := range c.Sentinels {
		s, ok := f.sentinel(v)
		remedy := "write what the " + c.holder() + " holds before scaling, such as 0x8000 or -32768"
		if f.textual {
			s, ok = f.textSentinel(v)
			remedy = `write it in quotes as it is sent, such as "OL", or as a number`
		}
		if !ok {
			c.wrong(fmt.Sprintf("sentinels[%d]", i), fmt.Sprintf("%s is nothing that %s can hold", v, f.name), remedy)
			continue
		}
		f.sentinels = append(f.sentinels, s)
	}
}

// Path joins the path of a visitor with a key that NewBinary or NewText told:
// schema.Join, but for the index of a sentinel.
func Path(path, key string) string {
	name, index, indexed := strings.Cut(key, "[")
	if indexed {
		return schema.Join(path, name) + "[" + index
	}
	return schema.Join(path, name)
}

// sentinel returns the bits of a sentinel: of a float the nearest float, or its
// bits where they are written as 0x….
func (f *Format) sentinel(v twin.Value) (sentinel, bool) {
	raw, ok := f.sentinelBits(strings.ToLower(v.Text()))
	return sentinel{raw: raw & f.mask(), isNumber: true}, ok
}

func (f *Format) sentinelBits(text string) (uint64, bool) {
	bits := strings.HasPrefix(text, "0x")
	switch {
	case f.kind == float && !bits:
		x, err := strconv.ParseFloat(text, 8*f.width)
		if f.width == 4 {
			return uint64(math.Float32bits(float32(x))), err == nil
		}
		return math.Float64bits(x), err == nil
	case f.kind == float || (f.kind == bcd && bits):
		n, err := strconv.ParseUint(text, 0, 8*f.width)
		return n, err == nil
	}
	n, ok := f.parse(text)
	if f.kind == bcd {
		n = toBCD(n)
	}
	return n, ok
}

// textSentinel returns a sentinel of text: a text stands for itself, and for the
// number that it is; a number for all texts of that number.
func (f *Format) textSentinel(v twin.Value) (sentinel, bool) {
	text := strings.Trim(v.Text(), fill)
	s := sentinel{text: text, isText: v.Kind() == twin.String || !f.numeric()}
	switch {
	case v.Kind() == twin.Bool:
		return s, s.isText
	case f.kind == hex && s.isText:
		raw, err := parseHex(text)
		s.raw, s.isNumber = raw, err == nil
	case f.kind == hex:
		raw, ok := v.AsUint()
		s.raw, s.isNumber = raw, ok
	case f.kind == number:
		s.number, _, s.isNumber = parseDecimal(text)
	}
	return s, s.isText || s.isNumber
}

// fits checks the property's declared type against what the Format gives.
func (c *check) fits() {
	f := &c.f
	want := ""
	switch {
	case f.enum != nil:
	case f.kind == boolean && f.out != twin.TypeBoolean:
		want = "BOOLEAN"
	case f.kind == str && f.out != twin.TypeString && f.out != twin.TypeBytes:
		want = "STRING or BYTES"
	case f.kind == float && f.out != twin.TypeFloat && f.out != twin.TypeDouble:
		want = "FLOAT or DOUBLE"
	case (f.integral() || f.kind == number) && !isNumber(f.out):
		want = "INT, FLOAT or DOUBLE"
	case f.numeric() && f.out == twin.TypeInt && !f.scale.whole() && !c.Lenient:
		c.wrong("scale", "it gives values with a fraction, but the property is INT", "declare the property's type as DOUBLE or FLOAT")
	}
	if want == "" {
		return
	}
	remedy := "declare the property's type as " + want
	if f.out == twin.TypeBoolean {
		remedy += ", or use type: bool"
		if !f.textual {
			remedy += " with bit"
		}
	}
	c.wrong("type", fmt.Sprintf("%s does not fit the property's type %s", f.name, cmp.Or(string(f.out), "(none)")), remedy)
}

// band checks the deadband.
func (c *check) band() {
	switch {
	case c.Deadband != 0 && !isNumber(c.Out):
		c.wrong("deadband", fmt.Sprintf("a %s has none", cmp.Or(string(c.Out), "property without a type")), "leave it out: it is for INT, FLOAT and DOUBLE")
	case c.Deadband < 0 || math.IsNaN(c.Deadband) || math.IsInf(c.Deadband, 0):
		c.wrong("deadband", fmt.Sprintf("%g is no distance", c.Deadband), "use a number from 0 on")
	}
}
