package modbus

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// Table is one of the four tables of a Modbus device.
type Table uint8

// The tables.
const (
	Coils     Table = iota // single bits, writable
	Discretes              // single bits
	Holdings               // registers of 16 bits, writable
	Inputs                 // registers of 16 bits
	Tables    = 4          // how many there are
)

// Bits reports whether the table holds single bits.
func (t Table) Bits() bool { return t <= Discretes }

// String returns the spelling of a visitor's register key.
func (t Table) String() string { return tableNames()[t] }

func tableNames() []string { return []string{"coil", "discrete", "holding", "input"} }

// dataType is how the bits of a field are to be taken.
type dataType uint8

const (
	typeBool dataType = iota
	typeInt16
	typeUint16
	typeInt32
	typeUint32
	typeInt64
	typeUint64
	typeFloat32
	typeFloat64
	typeBCD16
	typeBCD32
	typeString
)

func typeNames() []string {
	return []string{"bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bcd16", "bcd32", "string"}
}

// width is the bytes of the type; a string's are its length.
func (t dataType) width() int {
	switch t {
	case typeInt32, typeUint32, typeFloat32, typeBCD32:
		return 4
	case typeInt64, typeUint64, typeFloat64:
		return 8
	}
	return 2
}

func (t dataType) signed() bool { return t == typeInt16 || t == typeInt32 || t == typeInt64 }
func (t dataType) float() bool  { return t == typeFloat32 || t == typeFloat64 }
func (t dataType) bcd() bool    { return t == typeBCD16 || t == typeBCD32 }

// Field is one property on a device: where it is and how its bits become a
// value. A Field is immutable and safe for concurrent use.
type Field struct {
	Property string
	Table    Table
	Address  uint16 // of the first bit or register
	Count    uint16 // of bits or registers
	Writable bool

	typ       dataType
	out       twin.Type
	bit       int // of the number in the register, 0 the least significant; -1: all of it
	places    perm
	scale     scaler
	sentinels []uint64 // raw bits that mean "no value"
	enum      []enumEntry
}

type enumEntry struct {
	raw  uint64 // as uint64(int64) for signed types
	text string
}

// End is the first address behind the field.
func (f *Field) End() int { return int(f.Address) + int(f.Count) }

// Mask returns the bits of the register that belong to the field, in the order of the
// wire, and whether it is a single bit of a register that others may share.
func (f *Field) Mask() (uint16, bool) {
	if f.bit < 0 || f.Table.Bits() {
		return 0xFFFF, false
	}
	var b [2]byte
	f.put(b[:], 1<<f.bit)
	return binary.BigEndian.Uint16(b[:]), true
}

// Decode returns the field's value in the data of an answer (goburrow's form:
// registers big-endian, bits packed from the lowest) that starts index bits or registers before the field.
// The data must reach to the field's end. The value is zero where the quality is bad: "sentinel",
// "nan" (NaN or infinite), "bcd" (no decimal digit), "enum" (a number without a name),
// "range" (beyond 64 bits).
func (f *Field) Decode(data []byte, index int) (twin.Value, twin.Quality) {
	if f.Table.Bits() {
		return f.boolean(data[index/8]>>(index%8)&1 == 1)
	}
	data = data[2*index : 2*(index+int(f.Count))]
	if f.typ == typeString {
		return f.text(data)
	}
	raw := f.raw(data)
	if f.sentinels != nil && slices.Contains(f.sentinels, raw) {
		return twin.Value{}, badSentinel
	}
	switch f.typ {
	case typeBool:
		return f.boolean(raw>>f.bit&1 == 1)
	case typeFloat32:
		return f.float(shortest32(math.Float32frombits(uint32(raw))))
	case typeFloat64:
		return f.float(math.Float64frombits(raw))
	case typeBCD16, typeBCD32:
		n, ok := fromBCD(raw)
		if !ok {
			return twin.Value{}, badBCD
		}
		raw = n
	case typeInt16:
		raw = uint64(int64(int16(raw)))
	case typeInt32:
		raw = uint64(int64(int32(raw)))
	}
	return f.number(raw)
}

// The qualities of what cannot be a value.
const (
	badSentinel twin.Quality = "bad:sentinel"
	badNaN      twin.Quality = "bad:nan"
	badBCD      twin.Quality = "bad:bcd"
	badEnum     twin.Quality = "bad:enum"
	badRange    twin.Quality = "bad:range"
)

// raw gathers the bytes of a number in the order of their weight.
func (f *Field) raw(data []byte) uint64 {
	var u uint64
	for _, i := range f.places[:f.typ.width()] {
		u = u<<8 | uint64(data[i])
	}
	return u
}

// put is the inverse of raw.
func (f *Field) put(data []byte, u uint64) {
	width := f.typ.width()
	for k, i := range f.places[:width] {
		data[i] = byte(u >> (8 * (width - 1 - k)))
	}
}

func (f *Field) boolean(b bool) (twin.Value, twin.Quality) {
	if f.enum != nil {
		raw := uint64(0)
		if b {
			raw = 1
		}
		return f.named(raw)
	}
	return twin.BoolValue(b), ""
}

func (f *Field) named(raw uint64) (twin.Value, twin.Quality) {
	for i := range f.enum {
		if f.enum[i].raw == raw {
			return twin.StringValue(f.enum[i].text), ""
		}
	}
	return twin.Value{}, badEnum
}

func (f *Field) float(x float64) (twin.Value, twin.Quality) {
	v := twin.FloatValue(f.scale.ofFloat(x))
	if v.IsZero() {
		return v, badNaN
	}
	return v, ""
}

// number makes a value of an integer in two's complement.
func (f *Field) number(raw uint64) (twin.Value, twin.Quality) {
	if f.enum != nil {
		return f.named(raw)
	}
	neg := f.typ.signed() && int64(raw) < 0
	if f.out != twin.TypeInt {
		return twin.FloatValue(f.scale.float(raw, neg)), ""
	}
	if f.scale.identity {
		if neg {
			return twin.IntValue(int64(raw)), ""
		}
		return twin.UintValue(raw), ""
	}
	n, ok := f.scale.integer(raw, neg)
	if !ok {
		return twin.Value{}, badRange
	}
	return twin.IntValue(n), ""
}

// text reads a string. Text ends at the first NUL, and trailing spaces, with
// which devices fill up, are left out. Bytes are kept whole, as base64.
func (f *Field) text(data []byte) (twin.Value, twin.Quality) {
	b := make([]byte, len(data))
	for i := 0; i+1 < len(data); i += 2 {
		b[i], b[i+1] = data[i+int(f.places[0])], data[i+int(f.places[1])]
	}
	if f.out == twin.TypeBytes {
		return twin.StringValue(base64.StdEncoding.EncodeToString(b)), ""
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	return twin.StringValue(strings.TrimRight(s, " ")), ""
}

func fromBCD(raw uint64) (uint64, bool) {
	n, weight := uint64(0), uint64(1)
	for ; raw != 0; raw >>= 4 {
		digit := raw & 0xF
		if digit > 9 {
			return 0, false
		}
		n += digit * weight
		weight *= 10
	}
	return n, true
}

func toBCD(n uint64) uint64 {
	var raw uint64
	for shift := 0; n != 0; shift += 4 {
		raw |= n % 10 << shift
		n /= 10
	}
	return raw
}
