package modbus

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/twinline/twinline/internal/number"
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
	Deadband  float64           `key:"deadband"`

	Limit        *int  `key:"limit"`
	SwapBytes    *bool `key:"isSwap"`
	SwapRegister *bool `key:"isRegisterSwap"`
}

// VisitorTable describes the configData of a Modbus visitor: it decodes it and documents it.
func VisitorTable() *schema.Table {
	fields := []schema.Field{
		{
			Key: "register", Kind: schema.Enum, Required: true, Enum: tableNames(), Example: "holding",
			EnumAliases: map[string]string{"coilregister": "coil", "discreteinputregister": "discrete", "holdingregister": "holding", "inputregister": "input"},
			Doc:         "The table. `coil` and `discrete` hold single bits, `holding` and `input` registers of 16 bits; `coil` and `holding` can be written. The spelling of mappers-go (`HoldingRegister`) is read too, and then so are its other keys, below.",
		},
		{
			Key: "address", Kind: schema.Int, Min: 0, Max: lastAddress, Example: "100",
			Doc: "The first bit or register, counted from 0 as on the wire: what a manual calls 40001 is `holding` with the address 0.",
		},
	}
	for _, f := range number.Fields(typeNames()) {
		switch f.Key {
		case "type":
			f.Doc = "How to take the bits. Without it a bit is a `bool` and a register a `uint16`."
		case "scale":
			fields = append(fields, extentFields()...)
		case "offset":
			f.Doc += " In the spelling of mappers-go it is the address."
		}
		fields = append(fields, f)
	}
	return &schema.Table{
		Title: "Modbus: a property",
		Doc:   "`configData` of the property's visitor, in the device or in the model; the device's keys override the model's.",
		Fields: append(
			fields,
			schema.Field{Key: "limit", Kind: schema.Int, Min: 1, Max: maxReadRegisters, Doc: "As in mappers-go: how many registers the number has. The type follows from it and from the property's."},
			schema.Field{Key: "isSwap", Kind: schema.Bool, Doc: "As in mappers-go: swap the bytes of each register."},
			schema.Field{Key: "isRegisterSwap", Kind: schema.Bool, Doc: "As in mappers-go: the least significant register comes first."},
		),
	}
}

// extentFields are the keys that say how much of the registers a value takes.
func extentFields() []schema.Field {
	return []schema.Field{
		{
			Key: "bit", Kind: schema.Int, Min: 0, Max: 15,
			Doc: "The bit of the register that a `bool` is, 0 the least significant. Writing it leaves the other bits alone.",
		},
		{
			Key: "length", Kind: schema.Int, Min: 1, Max: maxReadRegisters,
			Doc: "The registers of a `string`; two characters are in each.",
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
	base   number.Order
	typ    string
	field  Field
}

// wrong notes a problem with a key of the visitor.
func (v *visit) wrong(key, what, remedy string) {
	v.problem(number.Path(v.path, key), what, remedy)
}

// visitor reads the visitor of a property.
func (p *parser) visitor(prop *twin.Property, c *Config, base number.Order) (Field, bool) {
	v := visit{parser: p, prop: prop, base: base, path: "spec.properties[" + prop.Name + "].visitors.configData"}
	before := len(p.problems)
	v.legacy = isLegacy(prop.Visitor)
	p.problems = append(p.problems, VisitorTable().Decode(p.object, v.path, prop.Visitor, &v.raw)...)
	if len(p.problems) > before {
		return Field{}, false
	}
	v.field = Field{Property: prop.Name, Writable: prop.Writable}
	v.table()
	v.address()
	if !v.dataType() {
		return Field{}, false
	}
	v.extent(c)
	v.order()
	v.format()
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
		v.typ = v.raw.Type
	case f.Table.Bits() || v.raw.Bit != nil:
		v.typ = typeBool
	case v.legacy:
		return v.legacyType()
	default:
		v.typ = "uint16"
	}
	if f.Table.Bits() && v.typ != typeBool {
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
	types := map[int]string{1: "uint16", 2: "uint32", 4: "uint64"}
	switch v.prop.Type {
	case twin.TypeString, twin.TypeBytes:
		v.typ = typeString
		v.raw.Length = &limit
		return true
	case twin.TypeFloat, twin.TypeDouble:
		types = map[int]string{1: "uint16", 2: "float32", 4: "float64"}
	}
	typ, ok := types[limit]
	if !ok {
		v.wrong("limit", fmt.Sprintf("no number has %d registers", limit), "use 1, 2 or 4")
	}
	v.typ = typ
	return ok
}

// extent finds out which bits or registers the field covers.
func (v *visit) extent(c *Config) {
	f := &v.field
	f.Count = 1
	if !f.Table.Bits() {
		f.Count = uint16(max(1, number.WidthOf(v.typ)/2)) // a bool is in one, and a string has its length
	}
	switch {
	case v.typ == typeString && v.raw.Length == nil:
		v.wrong("length", "missing", "write how many registers the string has")
		return
	case v.typ == typeString:
		f.Count = uint16(*v.raw.Length)
	case v.raw.Length != nil:
		v.wrong("length", v.typ+" has its own length", "leave it out; it is for strings")
		return
	}
	switch bit := v.raw.Bit; {
	case bit != nil && (f.Table.Bits() || v.typ != typeBool):
		v.wrong("bit", "only a bool in a register is a bit of it", "leave it out, or use type: bool with the table holding or input")
	case bit == nil && v.typ == typeBool && !f.Table.Bits():
		v.wrong("bit", "missing: a register has 16", "write which bit it is, 0 the least significant")
	}
	if f.End() > lastAddress+1 {
		v.wrong("address", fmt.Sprintf("its last register is %d, beyond %d", f.End()-1, lastAddress), fmt.Sprintf("use an address up to %d", lastAddress+1-int(f.Count)))
	}
	if limit := c.MaxRegisters; limit > 0 && !f.Table.Bits() && int(f.Count) > limit {
		v.wrong(cmp.Or(map[bool]string{true: "length"}[v.typ == typeString], "type"), fmt.Sprintf("its %d registers do not fit one read of at most %d", f.Count, limit), "raise the device's maxRegisters, or read less")
	}
	if f.Writable && f.Count > maxWriteRegisters {
		v.wrong("length", fmt.Sprintf("%d registers do not fit one write of at most %d", f.Count, maxWriteRegisters), "declare accessMode: ReadOnly, or write less")
	}
}

// order checks what Modbus says of it besides number.
func (v *visit) order() {
	if v.raw.SwapBytes != nil || v.raw.SwapRegister != nil {
		v.base = number.NewOrder(v.raw.SwapBytes != nil && *v.raw.SwapBytes, v.raw.SwapRegister != nil && *v.raw.SwapRegister)
		if v.raw.Order != "" {
			v.wrong("order", "it stands beside isSwap", "keep order alone")
		}
		v.raw.Order = ""
	}
	if !v.field.Table.Bits() {
		return
	}
	v.base = number.Order{}
	if v.raw.Order != "" {
		v.wrong("order", "a single bit has no order", "leave it out")
		v.raw.Order = ""
	}
}

// format finds out how the bits become a value.
func (v *visit) format() {
	d := number.Decl{
		Type: v.typ, Order: v.raw.Order, Scale: v.raw.Scale, Offset: v.raw.Offset, Enum: v.raw.Enum,
		Sentinels: v.raw.Sentinels, Deadband: v.raw.Deadband,
		Out: v.prop.Type, Base: v.base, Word: 2, Length: 2 * int(v.field.Count), Lenient: v.legacy,
	}
	if v.typ == typeBool && !v.field.Table.Bits() {
		d.Bit = v.raw.Bit
	}
	v.field.format, _ = number.NewBinary(d, v.wrong)
	if mask := v.field.format.Mask(); mask != nil {
		v.field.mask = wordsOf(mask)[0]
	}
}
