package number

import (
	"math/big"
	"slices"
	"strconv"
)

// kind is how bits or text are to be taken.
type kind uint8

const (
	boolean  kind = iota // bits, or words for yes and no
	signed               // two's complement
	unsigned             //
	float                // IEEE 754
	bcd                  // a decimal digit in each four bits
	str                  // characters
	number               // text: a decimal number
	hex                  // text: hexadecimal digits
)

// form is one of the types of a visitor.
type form struct {
	name  string
	kind  kind
	width int // bytes of a number; of a bool the device's word; 0: of any length
}

func binaryForms() []form {
	return []form{
		{"bool", boolean, 1},
		{"int8", signed, 1},
		{"uint8", unsigned, 1},
		{"int16", signed, 2},
		{"uint16", unsigned, 2},
		{"int24", signed, 3},
		{"uint24", unsigned, 3},
		{"int32", signed, 4},
		{"uint32", unsigned, 4},
		{"int48", signed, 6},
		{"uint48", unsigned, 6},
		{"int64", signed, 8},
		{"uint64", unsigned, 8},
		{"float32", float, 4},
		{"float64", float, 8},
		{"bcd8", bcd, 1},
		{"bcd16", bcd, 2},
		{"bcd24", bcd, 3},
		{"bcd32", bcd, 4},
		{"bcd48", bcd, 6},
		{"string", str, 0},
	}
}

func textForms() []form {
	return []form{{"number", number, 0}, {"hex", hex, 0}, {"bool", boolean, 0}, {"string", str, 0}}
}

// BinaryTypes returns the types of values held in bytes.
func BinaryTypes() []string { return namesOf(binaryForms()) }

// TextTypes returns the types of values sent as text: a decimal number,
// hexadecimal digits that are an integer, a word for yes or no, and text itself.
func TextTypes() []string { return namesOf(textForms()) }

// WidthOf returns the bytes of one of BinaryTypes: 1 for a bool, 0 for a string and for
// what is no type.
func WidthOf(typ string) int {
	f, _ := formOf(binaryForms(), typ)
	return f.width
}

func namesOf(forms []form) []string {
	names := make([]string, len(forms))
	for i := range forms {
		names[i] = forms[i].name
	}
	return names
}

func formOf(forms []form, name string) (form, bool) {
	i := slices.IndexFunc(forms, func(f form) bool { return f.name == name })
	if i < 0 {
		return form{}, false
	}
	return forms[i], true
}

// integral reports whether the device holds integers.
func (f *form) integral() bool {
	return f.kind == signed || f.kind == unsigned || f.kind == bcd || f.kind == hex
}

// numeric reports whether the device holds numbers, which can be scaled.
func (f *form) numeric() bool { return f.kind != boolean && f.kind != str }

// mask has the bits of the width.
func (f *form) mask() uint64 { return ^uint64(0) >> (64 - 8*f.width) }

// extend repeats the sign of raw to 64 bits where the form is signed.
func (f *form) extend(raw uint64) uint64 {
	if f.kind != signed {
		return raw
	}
	shift := 64 - 8*f.width
	return uint64(int64(raw<<shift) >> shift)
}

// limits returns the smallest and the largest integer of an integral form.
func (f *form) limits() (lo, hi *big.Int) {
	one := big.NewInt(1)
	bits := uint(8 * f.width)
	switch f.kind {
	case bcd:
		return new(big.Int), new(big.Int).Sub(pow10(2*f.width), one)
	case hex:
		bits = 64
	case signed:
		hi = new(big.Int).Lsh(one, bits-1)
		return new(big.Int).Neg(hi), new(big.Int).Sub(hi, one)
	}
	hi = new(big.Int).Lsh(one, bits)
	return new(big.Int), hi.Sub(hi, one)
}

// parse reads an integer of the form as uint64 in two's complement.
func (f *form) parse(text string) (uint64, bool) {
	switch f.kind {
	case boolean:
		n, err := strconv.ParseUint(text, 0, 1)
		return n, err == nil
	case bcd:
		n, err := strconv.ParseUint(text, 10, 64)
		_, hi := f.limits()
		return n, err == nil && n <= hi.Uint64()
	case signed:
		if n, err := strconv.ParseInt(text, 0, 8*f.width); err == nil {
			return uint64(n), true
		}
	}
	n, err := strconv.ParseUint(text, 0, 8*f.width)
	return f.extend(n), err == nil // 0x8000 of an int16 is negative
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
