package number

import (
	"encoding/base64"
	"math"
	"slices"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// Format is how the bytes or the text of one property become its value. NewBinary
// and NewText make one; it is immutable and safe for concurrent use.
type Format struct {
	form
	textual   bool // of NewText
	out       twin.Type
	word      int // bytes of the device's word
	bit       int // of the word, 0 the least significant; -1: all of it
	size      int // bytes of a string; 0: any
	places    perm
	scale     scaler
	enum      []entry
	sentinels []sentinel
}

// entry is one name of an enum.
type entry struct {
	raw  uint64     // binary: what the device holds, as uint64(int64) for signed types
	text string     // text: what the instrument sends
	name twin.Value // what it means
}

// The qualities of what cannot be a value.
const (
	badSentinel twin.Quality = "bad:sentinel"
	badNaN      twin.Quality = "bad:nan"
	badBCD      twin.Quality = "bad:bcd"
	badEnum     twin.Quality = "bad:enum"
	badRange    twin.Quality = "bad:range"
	badShort    twin.Quality = "bad:short"
	badNumber   twin.Quality = "bad:number"
	badBool     twin.Quality = "bad:bool"
	badFraction twin.Quality = "bad:fraction"
)

// Width returns how many bytes a binary number takes, of a bool the device's
// word. It is 0 for a string, whose length the caller knows, and for text.
func (f *Format) Width() int { return f.width }

// Decode returns the value of a binary Format in data: a number is its first
// Width bytes, a string is all of it. The value is zero where the quality is bad:
// "sentinel", "nan" (NaN or infinite), "bcd" (no decimal digit), "enum" (a number without a name),
// "range" (beyond 64 bits, or a string beyond twin.MaxStringValue), "short" (fewer bytes than Width).
func (f *Format) Decode(data []byte) (twin.Value, twin.Quality) {
	if f.kind == str {
		return f.chars(data)
	}
	if len(data) < f.width || f.textual {
		return twin.Value{}, badShort
	}
	raw := f.raw(data)
	if f.sentinels != nil && slices.ContainsFunc(f.sentinels, func(s sentinel) bool { return s.raw == raw }) {
		return twin.Value{}, badSentinel
	}
	switch f.kind {
	case boolean:
		return f.yesNo(raw)
	case float:
		if f.width == 4 {
			return f.float(shortest32(math.Float32frombits(uint32(raw))))
		}
		return f.float(math.Float64frombits(raw))
	case bcd:
		n, ok := fromBCD(raw)
		if !ok {
			return twin.Value{}, badBCD
		}
		raw = n
	}
	return f.number(f.extend(raw))
}

// raw gathers the bytes of a number in the order of their weight.
func (f *Format) raw(data []byte) uint64 {
	var u uint64
	for _, i := range f.places[:f.width] {
		u = u<<8 | uint64(data[i])
	}
	return u
}

// put is the inverse of raw.
func (f *Format) put(data []byte, u uint64) {
	for k, i := range f.places[:f.width] {
		data[i] = byte(u >> (8 * (f.width - 1 - k)))
	}
}

// yesNo makes a value of a bit, or of a word of which anything but 0 is yes.
func (f *Format) yesNo(raw uint64) (twin.Value, twin.Quality) {
	if f.bit >= 0 {
		raw = raw >> f.bit & 1
	}
	if f.enum != nil {
		return f.named(min(raw, 1))
	}
	return twin.BoolValue(raw != 0), ""
}

func (f *Format) named(raw uint64) (twin.Value, twin.Quality) {
	for i := range f.enum {
		if f.enum[i].raw == raw {
			return f.enum[i].name, ""
		}
	}
	return twin.Value{}, badEnum
}

func (f *Format) float(x float64) (twin.Value, twin.Quality) {
	v := twin.FloatValue(f.scale.ofFloat(x))
	if v.IsZero() {
		return v, badNaN
	}
	return v, ""
}

// number makes a value of an integer in two's complement.
func (f *Format) number(raw uint64) (twin.Value, twin.Quality) {
	if f.enum != nil {
		return f.named(raw)
	}
	neg := f.kind == signed && int64(raw) < 0
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

// chars reads a string. Text ends at the first NUL, and trailing spaces, with
// which devices fill up, are left out. Bytes are kept whole, as base64.
func (f *Format) chars(data []byte) (twin.Value, twin.Quality) {
	b := data
	if f.word > 1 {
		b = make([]byte, len(data))
		f.swap(b, data)
	}
	if f.out == twin.TypeBytes {
		return bounded(twin.StringValue(base64.StdEncoding.EncodeToString(b)))
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	return bounded(twin.StringValue(strings.TrimRight(s, " ")))
}

// swap puts the bytes of each word of a string from where they stand on the
// wire to where they are read, or back; dst may be src.
func (f *Format) swap(dst, src []byte) {
	copy(dst, src)
	for i := 0; i+1 < len(src) && f.places[0] != 0; i += 2 {
		dst[i], dst[i+1] = src[i+1], src[i]
	}
}

func bounded(v twin.Value) (twin.Value, twin.Quality) {
	if len(v.Text()) > twin.MaxStringValue {
		return twin.Value{}, badRange
	}
	return v, ""
}
