package modbus

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

// visitorConfig is a visitor's configData as written.
type visitorConfig struct {
	Register  string            `key:"register"`
	Address   *int              `key:"address"`
	Type      string            `key:"type"`
	Order     string            `key:"order"`
	Bit       *int              `key:"bit"`
	Length    *int              `key:"length"`
	Scale     float64           `key:"scale"`
	Offset    float64           `key:"offset"`
	Enum      map[string]string `key:"enum"`
	Sentinels []twin.Value      `key:"sentinels"`

	Limit        *int  `key:"limit"`
	SwapBytes    *bool `key:"isSwap"`
	SwapRegister *bool `key:"isRegisterSwap"`
}

// VisitorTable describes the configData of a Modbus visitor: it decodes it and documents it.
func VisitorTable() *schema.Table {
	return &schema.Table{
		Title: "Modbus: a property",
		Doc:   "`configData` of the property's visitor, in the device or in the model; the device's keys override the model's.",
		Fields: []schema.Field{
			{
				Key: "register", Kind: schema.Enum, Required: true, Enum: tableNames(), Example: "holding",
				EnumAliases: map[string]string{"coilregister": "coil", "discreteinputregister": "discrete", "holdingregister": "holding", "inputregister": "input"},
				Doc:         "The table. `coil` and `discrete` hold single bits, `holding` and `input` registers of 16 bits; `coil` and `holding` can be written. The spelling of mappers-go (`HoldingRegister`) is read too, and then so are its other keys, below.",
			},
			{
				Key: "address", Kind: schema.Int, Min: 0, Max: lastAddress, Example: "100",
				Doc: "The first bit or register, counted from 0 as on the wire: what a manual calls 40001 is `holding` with the address 0.",
			},
			{
				Key: "type", Kind: schema.Enum, Enum: typeNames(), Example: "float32",
				Doc: "How to take the bits. Without it a bit is a `bool` and a register a `uint16`.",
			},
			{
				Key: "order", Kind: schema.String, Min: 2, Max: 8, Example: "CDAB",
				Doc: "The bytes of the number as they come, A the most significant: `AB` or `BA` for one register and for strings; `ABCD`, `BADC`, `CDAB` or `DCBA` for more; the letters A to H in any order for 64 bits. Without it the device's `order` holds.",
			},
			{
				Key: "bit", Kind: schema.Int, Min: 0, Max: 15,
				Doc: "The bit of the register that a `bool` is, 0 the least significant. Writing it leaves the other bits alone.",
			},
			{
				Key: "length", Kind: schema.Int, Min: 1, Max: maxReadRegisters,
				Doc: "The registers of a `string`; two characters are in each.",
			},
			{Key: "scale", Kind: schema.Float, Default: 1.0, Doc: "The value is what the register holds times `scale` plus `offset`."},
			{Key: "offset", Kind: schema.Float, Default: 0.0, Doc: "See `scale`. In the spelling of mappers-go it is the address."},
			{
				Key: "enum", Kind: schema.Map, Item: &schema.Field{Kind: schema.String, Min: 1, Max: 512}, Example: `{"0": "off", "1": "on"}`,
				Doc: "Names for the integers that the register may hold, for a property of type STRING. A number without a name is `bad:enum`.",
			},
			{
				Key: "sentinels", Kind: schema.List, Max: 16, Item: &schema.Field{Kind: schema.Scalar}, Example: "[0x8000]",
				Doc: "What the register holds when there is no value, before scaling. The property is then `bad:sentinel`. NaN is always bad.",
			},
			{Key: "limit", Kind: schema.Int, Min: 1, Max: maxReadRegisters, Doc: "As in mappers-go: how many registers the number has. The type follows from it and from the property's."},
			{Key: "isSwap", Kind: schema.Bool, Doc: "As in mappers-go: swap the bytes of each register."},
			{Key: "isRegisterSwap", Kind: schema.Bool, Doc: "As in mappers-go: the least significant register comes first."},
		},
	}
}

// visit is one visitor being checked.
type visit struct {
	*parser
	path   string
	prop   *twin.Property
	raw    visitorConfig
	legacy bool
	base   order
	field  Field
}

// wrong notes a problem with a key of the visitor.
func (v *visit) wrong(key, what, remedy string) {
	v.problem(schema.Join(v.path, key), what, remedy)
}

// visitor reads the visitor of a property.
func (p *parser) visitor(prop *twin.Property, c *Config, base order) (Field, bool) {
	v := visit{parser: p, prop: prop, base: base, path: "spec.properties[" + prop.Name + "].visitors.configData"}
	before := len(p.problems)
	v.legacy = isLegacy(prop.Visitor)
	p.problems = append(p.problems, VisitorTable().Decode(p.object, v.path, prop.Visitor, &v.raw)...)
	if len(p.problems) > before {
		return Field{}, false
	}
	v.field = Field{Property: prop.Name, Writable: prop.Writable, out: prop.Type, bit: -1}
	v.table()
	v.address()
	if !v.dataType() {
		return Field{}, false
	}
	v.extent(c)
	v.order()
	v.scaling()
	v.names()
	v.sentinels()
	v.fits()
	return v.field, len(p.problems) == before
}

// isLegacy reports whether a visitor is spelled as in mappers-go, where offset
// is the address.
func isLegacy(data map[string]any) bool {
	register, _ := data["register"].(string)
	_, limit := data["limit"]
	return limit || strings.HasSuffix(strings.ToLower(register), "register")
}

func (v *visit) table() {
	v.field.Table = Table(slices.Index(tableNames(), v.raw.Register))
	if v.prop.Writable && (v.field.Table == Discretes || v.field.Table == Inputs) {
		v.wrong("register", fmt.Sprintf("%s cannot be written, but the property is ReadWrite", v.raw.Register), "declare accessMode: ReadOnly, or use coil or holding")
	}
}

func (v *visit) address() {
	if v.legacy && v.raw.Address == nil {
		if a := v.raw.Offset; a != math.Trunc(a) || a < 0 || a > lastAddress {
			v.wrong("offset", fmt.Sprintf("%g is not an address", a), fmt.Sprintf("use 0 to %d", lastAddress))
			return
		}
		v.field.Address = uint16(v.raw.Offset)
		v.raw.Offset = 0
		return
	}
	switch {
	case !v.legacy && (v.raw.SwapBytes != nil || v.raw.SwapRegister != nil):
		v.wrong("isSwap", "the spelling of mappers-go beside this one", "write order: BADC, CDAB or DCBA")
	case v.raw.Address == nil:
		v.wrong("address", "missing", fmt.Sprintf("use 0 to %d, counted from 0 as on the wire", lastAddress))
	default:
		v.field.Address = uint16(*v.raw.Address)
	}
}

// dataType finds the type; without one nothing else can be checked.
func (v *visit) dataType() bool {
	f := &v.field
	switch {
	case v.raw.Type != "":
		f.typ = dataType(slices.Index(typeNames(), v.raw.Type))
	case f.Table.Bits() || v.raw.Bit != nil:
		f.typ = typeBool
	case v.legacy:
		return v.legacyType()
	default:
		f.typ = typeUint16
	}
	if f.Table.Bits() && f.typ != typeBool {
		v.wrong("type", fmt.Sprintf("%s holds single bits, not %s", v.raw.Register, v.raw.Type), "use bool, or the table holding or input")
		return false
	}
	return true
}

// legacyType derives the type as mappers-go does, from limit and the property's type.
func (v *visit) legacyType() bool {
	limit := 1
	if v.raw.Limit != nil {
		limit = *v.raw.Limit
	}
	types := map[int]dataType{1: typeUint16, 2: typeUint32, 4: typeUint64}
	switch v.prop.Type {
	case twin.TypeString, twin.TypeBytes:
		v.field.typ = typeString
		v.raw.Length = &limit
		return true
	case twin.TypeFloat, twin.TypeDouble:
		types = map[int]dataType{1: typeUint16, 2: typeFloat32, 4: typeFloat64}
	}
	typ, ok := types[limit]
	if !ok {
		v.wrong("limit", fmt.Sprintf("no number has %d registers", limit), "use 1, 2 or 4")
	}
	v.field.typ = typ
	return ok
}

// extent finds out which bits or registers the field covers.
func (v *visit) extent(c *Config) {
	f := &v.field
	f.Count = 1
	if !f.Table.Bits() {
		f.Count = uint16(f.typ.width() / 2)
	}
	switch {
	case f.typ == typeString && v.raw.Length == nil:
		v.wrong("length", "missing", "write how many registers the string has")
		return
	case f.typ == typeString:
		f.Count = uint16(*v.raw.Length)
	case v.raw.Length != nil:
		v.wrong("length", fmt.Sprintf("%s has its own length", typeNames()[f.typ]), "leave it out; it is for strings")
		return
	}
	switch bit := v.raw.Bit; {
	case bit != nil && (f.Table.Bits() || f.typ != typeBool):
		v.wrong("bit", "only a bool in a register is a bit of it", "leave it out, or use type: bool with the table holding or input")
	case bit != nil:
		f.bit = *bit
	case f.typ == typeBool && !f.Table.Bits():
		v.wrong("bit", "missing: a register has 16", "write which bit it is, 0 the least significant")
	}
	if f.End() > lastAddress+1 {
		v.wrong("address", fmt.Sprintf("its last register is %d, beyond %d", f.End()-1, lastAddress), fmt.Sprintf("use an address up to %d", lastAddress+1-int(f.Count)))
	}
	if limit := c.MaxRegisters; limit > 0 && !f.Table.Bits() && int(f.Count) > limit {
		v.wrong(cmp.Or(map[bool]string{true: "length"}[f.typ == typeString], "type"), fmt.Sprintf("its %d registers do not fit one read of at most %d", f.Count, limit), "raise the device's maxRegisters, or read less")
	}
	if f.Writable && f.Count > maxWriteRegisters {
		v.wrong("length", fmt.Sprintf("%d registers do not fit one write of at most %d", f.Count, maxWriteRegisters), "declare accessMode: ReadOnly, or write less")
	}
}

func (v *visit) order() {
	f := &v.field
	width := f.typ.width()
	if v.raw.SwapBytes != nil || v.raw.SwapRegister != nil {
		o := order{swapBytes: v.raw.SwapBytes != nil && *v.raw.SwapBytes, swapWords: v.raw.SwapRegister != nil && *v.raw.SwapRegister}
		if v.raw.Order != "" {
			v.wrong("order", "it stands beside isSwap", "keep order alone")
		}
		f.places = o.perm(width)
		return
	}
	if v.raw.Order == "" {
		f.places = v.base.perm(width)
		return
	}
	if f.Table.Bits() {
		v.wrong("order", "a single bit has no order", "leave it out")
		return
	}
	var ok bool
	if f.places, ok = permOf(v.raw.Order, width); !ok {
		v.wrong("order", fmt.Sprintf("%q is no order of %s", v.raw.Order, typeNames()[f.typ]), "use "+ordersFor(width))
	}
}

// integral reports whether the field holds integers.
func (t dataType) integral() bool { return t != typeBool && t != typeString && !t.float() }

func (v *visit) scaling() {
	scale, offset := v.raw.Scale, v.raw.Offset
	v.field.scale = newScaler(1, 0)
	switch {
	case scale == 0:
		v.wrong("scale", "0 makes every value the same", "use the factor between the register and the value, such as 0.1; leave it out for 1")
		return
	case math.Abs(scale) < 1e-30 || math.Abs(scale) > 1e30 || math.Abs(offset) > 1e30:
		v.wrong("scale", fmt.Sprintf("scale %g with offset %g is beyond any unit", scale, offset), "use a scale from 1e-30 to 1e30 and an offset up to 1e30")
		return
	}
	if v.field.typ != typeBool && v.field.typ != typeString {
		v.field.scale = newScaler(scale, offset)
		return
	}
	if (scale != 1 || offset != 0) && !v.legacy { // mappers-go leaves booleans and strings alone
		v.wrong("scale", fmt.Sprintf("a %s has none", typeNames()[v.field.typ]), "leave out scale and offset")
	}
}

func (v *visit) names() {
	f := &v.field
	if v.raw.Enum == nil {
		return
	}
	switch {
	case !f.typ.integral() && f.typ != typeBool:
		v.wrong("enum", fmt.Sprintf("%s holds no integers to name", typeNames()[f.typ]), "leave it out, or use an integer type or bool")
		return
	case !f.scale.identity:
		v.wrong("scale", "it stands beside enum", "leave out scale and offset: names go by what the register holds")
		return
	case f.out != twin.TypeString:
		v.wrong("enum", fmt.Sprintf("names are texts, but the property is %s", f.out), "declare the property's type as STRING")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(v.raw.Enum)) {
		raw, ok := f.typ.parse(key)
		if !ok {
			v.wrong("enum", fmt.Sprintf("%.40q is not a value of %s", key, typeNames()[f.typ]), `write the integers as keys, such as "0": "off"`)
		} else if slices.ContainsFunc(f.enum, func(e enumEntry) bool { return e.raw == raw || e.text == v.raw.Enum[key] }) {
			v.wrong("enum", fmt.Sprintf("%.40q is there twice", key+": "+v.raw.Enum[key]), "use each number and each name once")
		}
		f.enum = append(f.enum, enumEntry{raw, v.raw.Enum[key]})
	}
	if len(f.enum) == 0 {
		v.wrong("enum", "empty", `write the integers as keys, such as "0": "off"`)
	}
}

// parse reads an integer of the type as uint64 in two's complement.
func (t dataType) parse(text string) (uint64, bool) {
	if t == typeBool {
		n, err := strconv.ParseUint(text, 0, 1)
		return n, err == nil
	}
	if t.bcd() {
		n, err := strconv.ParseUint(text, 10, 64)
		_, hi := t.limits()
		return n, err == nil && n <= hi.Uint64()
	}
	if t.signed() {
		if n, err := strconv.ParseInt(text, 0, 8*t.width()); err == nil {
			return uint64(n), true
		}
	}
	n, err := strconv.ParseUint(text, 0, 8*t.width())
	if err == nil && t.signed() { // 0x8000 of an int16
		n = uint64(int64(n<<(64-8*t.width())) >> (64 - 8*t.width()))
	}
	return n, err == nil
}

func (v *visit) sentinels() {
	f := &v.field
	if len(v.raw.Sentinels) > 0 && (f.typ == typeBool || f.typ == typeString) {
		v.wrong("sentinels", fmt.Sprintf("a %s has none", typeNames()[f.typ]), "leave them out")
		return
	}
	for i, s := range v.raw.Sentinels {
		raw, ok := f.typ.sentinel(s)
		if !ok {
			v.problem(fmt.Sprintf("%s.sentinels[%d]", v.path, i), fmt.Sprintf("%s is nothing that %s can hold", s, typeNames()[f.typ]), "write what the register holds before scaling, such as 0x8000 or -32768")
			continue
		}
		f.sentinels = append(f.sentinels, raw)
	}
}

// sentinel returns the bits of a sentinel: of a float the nearest float, or its
// bits where they are written as 0x….
func (t dataType) sentinel(s twin.Value) (uint64, bool) {
	text := strings.ToLower(s.Text())
	mask := uint64(math.MaxUint64) >> (64 - 8*t.width())
	if t.float() && !strings.HasPrefix(text, "0x") {
		x, err := strconv.ParseFloat(text, 8*t.width())
		if t == typeFloat32 {
			return uint64(math.Float32bits(float32(x))), err == nil
		}
		return math.Float64bits(x), err == nil
	}
	if t.float() || (t.bcd() && strings.HasPrefix(text, "0x")) {
		n, err := strconv.ParseUint(text, 0, 8*t.width())
		return n, err == nil
	}
	n, ok := t.parse(text)
	if t.bcd() {
		n = toBCD(n)
	}
	return n & mask, ok
}

// fits checks the property's declared type against what the field gives.
func (v *visit) fits() {
	f := &v.field
	name := typeNames()[f.typ]
	want := ""
	switch {
	case f.enum != nil:
	case f.typ == typeBool && f.out != twin.TypeBoolean:
		want = "BOOLEAN"
	case f.typ == typeString && f.out != twin.TypeString && f.out != twin.TypeBytes:
		want = "STRING or BYTES"
	case f.typ.float() && f.out != twin.TypeFloat && f.out != twin.TypeDouble:
		want = "FLOAT or DOUBLE"
	case f.typ.integral() && f.out != twin.TypeInt && f.out != twin.TypeFloat && f.out != twin.TypeDouble:
		want = "INT, FLOAT or DOUBLE"
	case f.typ.integral() && f.out == twin.TypeInt && !f.scale.whole() && !v.legacy:
		v.wrong("scale", "it gives values with a fraction, but the property is INT", "declare the property's type as DOUBLE or FLOAT")
	}
	if want == "" {
		return
	}
	remedy := "declare the property's type as " + want
	if f.out == twin.TypeBoolean && !f.Table.Bits() {
		remedy += ", or use type: bool with bit"
	}
	v.wrong("type", fmt.Sprintf("%s does not fit the property's type %s", name, cmp.Or(string(f.out), "(none)")), remedy)
}
