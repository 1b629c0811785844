package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/twinline/twinline/pkg/twin"
)

// A tag says what a reading is: its value's kind, of a Bool its value too, and
// whether a quality follows.
const (
	tagKind    = 0x07
	tagTrue    = 0x08
	tagQuality = 0x10
	tagUnused  = 0xe0
)

// The ways floats are written. 0 to maxDecimals: each is an integer divided by
// that power of ten, which is what most devices send, and integers with
// small differences compress far better than the bits of floats.
const (
	maxDecimals = 9
	floatBits   = 0xff // the bits, byte 0 of all, byte 1 of all, …
)

// appendColumn appends the readings of one property.
func appendColumn(out []byte, column []twin.Reading) []byte {
	var floats []float64
	for i := range column {
		r := &column[i]
		tag := byte(r.Value.Kind())
		if b, ok := r.Value.AsBool(); ok && b {
			tag |= tagTrue
		}
		if !r.Quality.IsGood() {
			tag |= tagQuality
		}
		out = append(out, tag)
		if r.Value.Kind() == twin.Float {
			f, _ := r.Value.AsFloat()
			floats = append(floats, f)
		}
	}
	for i := range column {
		if q := column[i].Quality; !q.IsGood() {
			out = appendString(out, string(q))
		}
	}
	var prev uint64
	for i := range column {
		switch v := column[i].Value; v.Kind() {
		case twin.Int:
			n, _ := v.AsInt()
			out = appendDelta(out, uint64(n), &prev)
		case twin.Uint:
			n, _ := v.AsUint()
			out = appendDelta(out, n, &prev)
		case twin.String:
			s, _ := v.AsString()
			out = appendString(out, s)
		}
	}
	if len(floats) == 0 {
		return out
	}
	return appendFloats(out, floats)
}

func appendFloats(out []byte, floats []float64) []byte {
	decimals, ok := decimalsOf(floats)
	if ok {
		scale := pow10(decimals)
		out = append(out, byte(decimals))
		var prev uint64
		for _, f := range floats {
			out = appendDelta(out, uint64(int64(math.Round(f*scale))), &prev)
		}
		return out
	}
	out = append(out, floatBits)
	for shift := 0; shift < 64; shift += 8 {
		for _, f := range floats {
			out = append(out, byte(math.Float64bits(f)>>shift))
		}
	}
	return out
}

// decimalsOf returns the fewest decimals that give every float back to the bit.
func decimalsOf(floats []float64) (int, bool) {
	decimals := 0
	for _, f := range floats {
		for !isDecimal(f, decimals) {
			if decimals++; decimals > maxDecimals {
				return 0, false
			}
		}
	}
	for _, f := range floats {
		if !isDecimal(f, decimals) { // more decimals may be too many for a large one
			return 0, false
		}
	}
	return decimals, true
}

func isDecimal(f float64, decimals int) bool {
	const exact = 1 << 53 // integers beyond are not all floats
	scale := pow10(decimals)
	m := math.Round(f * scale)
	return math.Abs(m) < exact && math.Float64bits(float64(int64(m))/scale) == math.Float64bits(f)
}

// pow10 returns a power of ten up to maxDecimals, which floats hold exactly.
func pow10(decimals int) float64 {
	p := 1.0
	for range decimals {
		p *= 10
	}
	return p
}

// parseColumn reads a column of n readings; at returns the place of each.
func parseColumn(in *input, n int, at func(row int) *twin.Reading) {
	tags := in.bytes(n)
	floats := 0
	for row, tag := range tags {
		kind := twin.Kind(tag & tagKind)
		if kind > twin.String || tag&tagUnused != 0 || (tag&tagTrue != 0 && kind != twin.Bool) {
			in.fail(fmt.Errorf("tag %#x is unknown", tag))
			return
		}
		if kind == twin.Float {
			floats++
		}
		if tag&tagQuality != 0 {
			q := twin.Quality(in.string(maxQuality))
			if q.IsGood() {
				in.fail(errors.New("a good quality is spelled out"))
			}
			at(row).Quality = q
		}
	}
	var prev uint64
	for row, tag := range tags {
		switch twin.Kind(tag & tagKind) {
		case twin.Bool:
			at(row).Value = twin.BoolValue(tag&tagTrue != 0)
		case twin.Int:
			at(row).Value = twin.IntValue(int64(in.delta(&prev)))
		case twin.Uint:
			v := twin.UintValue(in.delta(&prev))
			if v.Kind() != twin.Uint {
				in.fail(errors.New("a small integer is tagged as a large one"))
			}
			at(row).Value = v
		case twin.String:
			at(row).Value = parseText(in)
		}
	}
	if floats > 0 {
		parseFloats(in, tags, floats, at)
	}
}

// maxQuality bounds a quality, in bytes; twin.Quality.Valid has the last word.
const maxQuality = 64

func parseText(in *input) twin.Value {
	s := in.string(twin.MaxStringValue)
	if !utf8.ValidString(s) {
		in.fail(errors.New("a string is not UTF-8"))
	}
	return twin.StringValue(s)
}

func parseFloats(in *input, tags []byte, n int, at func(row int) *twin.Reading) {
	mode := in.bytes(1)
	if in.err != nil {
		return
	}
	next := decimalReader(in, mode[0])
	if mode[0] == floatBits {
		next = bitsReader(in, n)
	}
	for row, tag := range tags {
		if twin.Kind(tag&tagKind) != twin.Float || in.err != nil {
			continue
		}
		f := next()
		v := twin.FloatValue(f)
		if got, _ := v.AsFloat(); v.IsZero() || math.Float64bits(got) != math.Float64bits(f) {
			in.fail(fmt.Errorf("the float %g has no JSON form", f))
		}
		at(row).Value = v
	}
}

func decimalReader(in *input, decimals byte) func() float64 {
	if decimals > maxDecimals && decimals != floatBits {
		in.fail(fmt.Errorf("floats of kind %d are unknown", decimals))
	}
	scale := pow10(min(int(decimals), maxDecimals))
	var prev uint64
	return func() float64 { return float64(int64(in.delta(&prev))) / scale }
}

func bitsReader(in *input, n int) func() float64 {
	planes := in.bytes(8 * n)
	i := 0
	return func() float64 {
		if planes == nil {
			return 0
		}
		var word [8]byte
		for b := range word {
			word[b] = planes[b*n+i]
		}
		i++
		return math.Float64frombits(binary.LittleEndian.Uint64(word[:]))
	}
}
