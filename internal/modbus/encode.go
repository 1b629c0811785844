package modbus

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// Encode returns the words that make a read of the field show value, one
// for each bit (0 or 1) or register, and the value that such a read shows: the nearest the
// field can hold. Of a single bit in a register the word holds that bit alone, see
// Mask. What the field cannot hold is an error that says what it can; nothing is cut off to
// fit. value is of the property's declared type.
func (f *Field) Encode(value twin.Value) ([]uint16, twin.Value, error) {
	words, err := f.words(value)
	if err != nil {
		return nil, twin.Value{}, fmt.Errorf("write %s: %w", f.Property, err)
	}
	data := make([]byte, 2*len(words))
	if f.Table.Bits() {
		data[0] = byte(words[0])
	} else {
		for i, w := range words {
			binary.BigEndian.PutUint16(data[2*i:], w)
		}
	}
	held, quality := f.Decode(data, 0)
	if quality.IsBad() {
		return nil, twin.Value{}, fmt.Errorf("write %s: %s would read back as %s", f.Property, value, quality)
	}
	return words, held, nil
}

func (f *Field) words(value twin.Value) ([]uint16, error) {
	if f.typ == typeString {
		return f.textWords(value)
	}
	raw, err := f.rawOf(value)
	if err != nil {
		return nil, err
	}
	if f.Table.Bits() {
		return []uint16{uint16(raw)}, nil
	}
	if f.bit >= 0 {
		raw <<= f.bit
	}
	data := make([]byte, f.typ.width())
	f.put(data, raw)
	return wordsOf(data), nil
}

func wordsOf(data []byte) []uint16 {
	words := make([]uint16, len(data)/2)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return words
}

// rawOf returns the bits of value.
func (f *Field) rawOf(value twin.Value) (uint64, error) {
	if f.enum != nil {
		return f.enumRaw(value)
	}
	if f.typ == typeBool {
		b, ok := value.AsBool()
		if !ok {
			return 0, fmt.Errorf("%s is not a boolean: write true or false", value)
		}
		if b {
			return 1, nil
		}
		return 0, nil
	}
	if _, ok := value.AsFloat(); !ok {
		return 0, fmt.Errorf("%s is not a number", value)
	}
	exact, ok := f.scale.inverse(value.Text())
	if !ok {
		return 0, fmt.Errorf("%s is not a number", value)
	}
	if f.typ.float() {
		return f.floatRaw(value, exact)
	}
	n := nearest(exact)
	lo, hi := f.typ.limits()
	if n.Cmp(lo) < 0 || n.Cmp(hi) > 0 {
		return 0, fmt.Errorf("%s is beyond what %s holds: use %s to %s", value, typeNames()[f.typ], f.shown(lo, hi), f.shown(hi, lo))
	}
	if f.typ.bcd() {
		return toBCD(n.Uint64()), nil
	}
	if n.Sign() < 0 {
		return uint64(n.Int64()) & (math.MaxUint64 >> (64 - 8*f.typ.width())), nil
	}
	return n.Uint64(), nil
}

// shown is the smaller end of the range in engineering units where the scale
// is positive, and the larger one where it is negative.
func (f *Field) shown(end, other *big.Int) string {
	if f.scale.scale < 0 {
		end = other
	}
	r := new(big.Rat).SetInt(end)
	r.Add(r.Mul(r, ratOf(f.scale.scale)), ratOf(f.scale.offset))
	if r.IsInt() {
		return r.Num().String()
	}
	x, _ := r.Float64()
	return strconv.FormatFloat(x, 'g', 15, 64)
}

// limits returns the smallest and the largest integer of the type.
func (t dataType) limits() (lo, hi *big.Int) {
	switch {
	case t == typeBCD16:
		return new(big.Int), big.NewInt(9999)
	case t == typeBCD32:
		return new(big.Int), big.NewInt(99999999)
	case t.signed():
		hi = new(big.Int).Lsh(big.NewInt(1), uint(8*t.width()-1))
		return new(big.Int).Neg(hi), new(big.Int).Sub(hi, big.NewInt(1))
	}
	hi = new(big.Int).Lsh(big.NewInt(1), uint(8*t.width()))
	return new(big.Int), hi.Sub(hi, big.NewInt(1))
}

func (f *Field) floatRaw(value twin.Value, exact *big.Rat) (uint64, error) {
	if f.typ == typeFloat64 {
		x, _ := exact.Float64()
		if math.IsInf(x, 0) {
			return 0, fmt.Errorf("%s is beyond what float64 holds", value)
		}
		return math.Float64bits(x), nil
	}
	x, _ := exact.Float32()
	if math.IsInf(float64(x), 0) {
		return 0, fmt.Errorf("%s is beyond what float32 holds: use %g to %g before scaling", value, -math.MaxFloat32, math.MaxFloat32)
	}
	return uint64(math.Float32bits(x)), nil
}

func (f *Field) enumRaw(value twin.Value) (uint64, error) {
	text, _ := value.AsString()
	names := make([]string, len(f.enum))
	for i := range f.enum {
		if f.enum[i].text == text {
			if f.typ.bcd() {
				return toBCD(f.enum[i].raw), nil
			}
			return f.enum[i].raw & (math.MaxUint64 >> (64 - 8*f.typ.width())), nil
		}
		names[i] = f.enum[i].text
	}
	return 0, fmt.Errorf("%.80q is not one of its names: use %s", value.Text(), strings.Join(names, ", "))
}

func (f *Field) textWords(value twin.Value) ([]uint16, error) {
	text, ok := value.AsString()
	if !ok {
		return nil, fmt.Errorf("%s is not a text", value)
	}
	b := []byte(text)
	if f.out == twin.TypeBytes {
		var err error
		if b, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("%.80q is not base64", text)
		}
	}
	size := 2 * int(f.Count)
	if len(b) > size {
		return nil, fmt.Errorf("%d bytes do not fit its %d registers: use at most %d bytes", len(b), f.Count, size)
	}
	data := make([]byte, size)
	copy(data, b)
	for i := 0; i < size; i += 2 {
		data[i+int(f.places[0])], data[i+int(f.places[1])] = data[i], data[i+1]
	}
	return wordsOf(data), nil
}
