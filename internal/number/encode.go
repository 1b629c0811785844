package number

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// Encode returns the bytes from which Decode makes value, and the value that it makes of
// them: the nearest that the device can hold. Of a single bit the word has that bit alone, see Mask; a
// string of a declared length is filled up with NUL. What the device cannot hold is an error
// that says what it can; nothing is cut off to fit. value is of the property's declared type.
func (f *Format) Encode(value twin.Value) (data []byte, held twin.Value, err error) {
	if f.textual {
		return nil, twin.Value{}, fmt.Errorf("%s is sent as text", value)
	}
	if f.kind == str {
		data, err = f.charsOf(value)
	} else {
		data, err = f.bytesOf(value)
	}
	if err != nil {
		return nil, twin.Value{}, err
	}
	held, quality := f.Decode(data)
	if quality.IsBad() {
		return nil, twin.Value{}, wouldBe(value, quality)
	}
	return data, held, nil
}

func wouldBe(value twin.Value, quality twin.Quality) error {
	return fmt.Errorf("%s would read back as %s", value, quality)
}

// Mask returns, of a bool that is one bit of a word, the word with that bit
// alone set, in the order of the wire; nil for all else. The other bits may be others' and
// must be left as they are.
func (f *Format) Mask() []byte {
	if f.bit < 0 {
		return nil
	}
	mask := make([]byte, f.width)
	f.put(mask, 1<<f.bit)
	return mask
}

func (f *Format) bytesOf(value twin.Value) ([]byte, error) {
	raw, err := f.rawOf(value)
	if err != nil {
		return nil, err
	}
	if f.bit >= 0 {
		raw <<= f.bit
	}
	data := make([]byte, f.width)
	f.put(data, raw)
	return data, nil
}

// rawOf returns the bits of value.
func (f *Format) rawOf(value twin.Value) (uint64, error) {
	if f.enum != nil {
		e, err := f.entryOf(value)
		if err != nil {
			return 0, err
		}
		if f.kind == bcd {
			return toBCD(e.raw), nil
		}
		return e.raw & f.mask(), nil
	}
	if f.kind == boolean {
		b, err := yes(value)
		if b {
			return 1, err
		}
		return 0, err
	}
	exact, err := f.inverse(value)
	if err != nil {
		return 0, err
	}
	if f.kind == float {
		return f.floatOf(value, exact)
	}
	n, err := f.integerOf(value, exact)
	if err != nil {
		return 0, err
	}
	if f.kind == bcd {
		return toBCD(n.Uint64()), nil
	}
	if n.Sign() < 0 {
		return uint64(n.Int64()) & f.mask(), nil
	}
	return n.Uint64(), nil
}

func yes(value twin.Value) (bool, error) {
	b, ok := value.AsBool()
	if !ok {
		return false, fmt.Errorf("%s is not a boolean: write true or false", value)
	}
	return b, nil
}

// inverse takes scale and offset off value, without rounding.
func (f *Format) inverse(value twin.Value) (*big.Rat, error) {
	_, ok := value.AsFloat()
	if ok {
		if exact, ok := f.scale.inverse(value.Text()); ok {
			return exact, nil
		}
	}
	return nil, fmt.Errorf("%s is not a number", value)
}

// integerOf rounds to an integer that the form holds.
func (f *Format) integerOf(value twin.Value, exact *big.Rat) (*big.Int, error) {
	n := nearest(exact)
	lo, hi := f.limits()
	if n.Cmp(lo) >= 0 && n.Cmp(hi) <= 0 {
		return n, nil
	}
	end := lo
	if n.Cmp(hi) > 0 {
		end = hi
	}
	if !f.reads(end, value) { // the shortest decimal of a float64 may be a little beyond what it was read from
		return nil, fmt.Errorf("%s is beyond what %s holds: use %s to %s", value, f.name, f.shown(lo, hi), f.shown(hi, lo))
	}
	return end, nil
}

// reads reports whether an integer that the form holds is read as value.
func (f *Format) reads(n *big.Int, value twin.Value) bool {
	raw := n.Uint64()
	if n.Sign() < 0 {
		raw = uint64(n.Int64())
	}
	held, _ := f.number(raw)
	return held.Equal(value)
}

// shown is the smaller end of the range in engineering units where the scale
// is positive, and the larger one where it is negative.
func (f *Format) shown(end, other *big.Int) string {
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

func (f *Format) floatOf(value twin.Value, exact *big.Rat) (uint64, error) {
	if f.width == 8 {
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

// entryOf finds the entry whose name is value.
func (f *Format) entryOf(value twin.Value) (*entry, error) {
	names := make([]string, len(f.enum))
	for i := range f.enum {
		if f.enum[i].name.Equal(value) {
			return &f.enum[i], nil
		}
		names[i] = f.enum[i].name.Text()
	}
	return nil, fmt.Errorf("%.80q is not one of its names: use %s", value.Text(), strings.Join(names, ", "))
}

// content returns the characters of value, or its bytes.
func (f *Format) content(value twin.Value) ([]byte, error) {
	text, ok := value.AsString()
	if !ok {
		return nil, fmt.Errorf("%s is not a text", value)
	}
	if f.out != twin.TypeBytes {
		return []byte(text), nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%.80q is not base64", text)
	}
	return b, nil
}

// charsOf returns a string as it stands on the wire.
func (f *Format) charsOf(value twin.Value) ([]byte, error) {
	b, err := f.content(value)
	if err != nil {
		return nil, err
	}
	size := f.size
	if size == 0 { // of any length, in whole words
		size = (len(b) + f.word - 1) / f.word * f.word
	}
	if len(b) > size {
		unit := "bytes"
		if f.word == 2 {
			unit = "registers"
		}
		return nil, fmt.Errorf("%d bytes do not fit its %d %s: use at most %d bytes", len(b), size/f.word, unit, size)
	}
	data := make([]byte, size)
	copy(data, b)
	f.swap(data, data)
	return data, nil
}
