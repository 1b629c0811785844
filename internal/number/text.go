package number

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// fill is what instruments put around a value to fill its columns.
const fill = " \t\r\n\x00"

// sentinel is what a device sends when there is no value.
type sentinel struct {
	raw      uint64 // binary, and text of the type hex
	text     string // of a text; "" with isText is an empty field
	isText   bool
	number   decimal // of a number, or a text that is one
	isNumber bool
}

// DecodeText returns the value of a text Format in text, which is all of the value and
// nothing else: the caller cuts out what belongs to it. Spaces, tabs, line ends and NULs around it are
// taken off, but for a string.
//
//   - number: a sign, which may stand apart from the digits, digits with at most one point,
//     and an exponent: "+0012.50", "-   3.1", ".5", "1.5E+03". It is scaled as a
//     decimal: 20.5 with the scale 0.1 is 2.05.
//   - hex: hexadecimal digits of at most 64 bits, with or without 0x; an integer without a sign.
//   - bool: true, 1, on, false, 0 or off, in any case.
//   - string: a text ends at its first NUL, and its trailing spaces are left out; bytes are
//     kept whole, as base64. With an enum it is looked up as it is.
//
// The value is zero where the quality is bad: "sentinel", "number" (not a number), "nan" (it says NaN
// or infinite), "bool", "enum" (a text without a name), "fraction" (an INT would lose
// its decimals), "range" (beyond 64 bits or float64, or a string beyond twin.MaxStringValue).
func (f *Format) DecodeText(text string) (twin.Value, twin.Quality) {
	trimmed := strings.Trim(text, fill)
	for i := range f.sentinels {
		if s := &f.sentinels[i]; s.isText && s.text == trimmed {
			return twin.Value{}, badSentinel
		}
	}
	switch {
	case !f.textual:
		return twin.Value{}, badNumber
	case f.enum != nil:
		return f.namedText(trimmed)
	case f.kind == boolean:
		return word(trimmed)
	case f.kind == str && f.out == twin.TypeBytes:
		return bounded(twin.StringValue(base64.StdEncoding.EncodeToString([]byte(text))))
	case f.kind == str:
		s, _, _ := strings.Cut(text, "\x00")
		return bounded(twin.StringValue(strings.TrimRight(s, " ")))
	case f.kind == hex:
		return f.hexText(trimmed)
	}
	return f.numberText(trimmed)
}

func (f *Format) namedText(text string) (twin.Value, twin.Quality) {
	for i := range f.enum {
		if f.enum[i].text == text {
			return f.enum[i].name, ""
		}
	}
	return twin.Value{}, badEnum
}

// word reads a word for yes or no.
func word(text string) (twin.Value, twin.Quality) {
	for _, yes := range []string{"1", "true", "on"} {
		if strings.EqualFold(text, yes) {
			return twin.BoolValue(true), ""
		}
	}
	for _, no := range []string{"0", "false", "off"} {
		if strings.EqualFold(text, no) {
			return twin.BoolValue(false), ""
		}
	}
	return twin.Value{}, badBool
}

func (f *Format) hexText(text string) (twin.Value, twin.Quality) {
	raw, err := parseHex(text)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return twin.Value{}, badRange
	case err != nil:
		return twin.Value{}, badNumber
	}
	for i := range f.sentinels {
		if s := &f.sentinels[i]; s.isNumber && s.raw == raw {
			return twin.Value{}, badSentinel
		}
	}
	return f.number(raw)
}

// parseHex reads hexadecimal digits, with or without 0x.
func parseHex(text string) (uint64, error) {
	if len(text) > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X') {
		text = text[2:]
	}
	return strconv.ParseUint(text, 16, 64)
}

func (f *Format) numberText(text string) (twin.Value, twin.Quality) {
	if len(text) > maxNumber {
		return twin.Value{}, badNumber
	}
	d, body, ok := parseDecimal(text)
	if !ok {
		for _, none := range []string{"nan", "inf", "infinity"} {
			if strings.EqualFold(body, none) {
				return twin.Value{}, badNaN
			}
		}
		return twin.Value{}, badNumber
	}
	for i := range f.sentinels {
		if s := &f.sentinels[i]; s.isNumber && s.number.equal(&d) {
			return twin.Value{}, badSentinel
		}
	}
	if f.out == twin.TypeInt {
		return f.integerText(&d)
	}
	x, ok := f.scale.ofDecimal(&d, body)
	if !ok {
		return twin.Value{}, badRange
	}
	return twin.FloatValue(x), ""
}

// integerText scales to an integer, of which nothing may be cut off.
func (f *Format) integerText(d *decimal) (twin.Value, twin.Quality) {
	if u, ok := d.uint64(); ok && f.scale.identity {
		if !d.neg {
			return twin.UintValue(u), ""
		}
		if u <= 1<<63 {
			return twin.IntValue(-int64(u)), ""
		}
		return twin.Value{}, badRange
	}
	r := f.scale.exactOf(d)
	n := r.Num()
	switch {
	case !r.IsInt():
		return twin.Value{}, badFraction
	case n.IsInt64():
		return twin.IntValue(n.Int64()), ""
	case n.IsUint64():
		return twin.UintValue(n.Uint64()), ""
	}
	return twin.Value{}, badRange
}

// maxPlaces bounds the decimals of a number that has no end, such as 1/0.3.
const maxPlaces = 60

// EncodeText returns the text from which DecodeText makes value, and the value that
// it makes of it: the nearest that there is. A number is decimal, without an exponent and with no more
// decimals than it needs; hex is in capitals, without 0x; a bool is 1 or 0. It is not padded. What
// cannot be said is an error; nothing is cut off to fit. value is of the property's declared type.
func (f *Format) EncodeText(value twin.Value) (text string, held twin.Value, err error) {
	if !f.textual {
		return "", twin.Value{}, fmt.Errorf("%s is held in bytes", value)
	}
	if text, err = f.textOf(value); err != nil {
		return "", twin.Value{}, err
	}
	held, quality := f.DecodeText(text)
	if quality.IsBad() {
		return "", twin.Value{}, wouldBe(value, quality)
	}
	return text, held, nil
}

func (f *Format) textOf(value twin.Value) (string, error) {
	switch {
	case f.enum != nil:
		e, err := f.entryOf(value)
		if err != nil {
			return "", err
		}
		return e.text, nil
	case f.kind == boolean:
		b, err := yes(value)
		if b {
			return "1", err
		}
		return "0", err
	case f.kind == str:
		b, err := f.content(value)
		return string(b), err
	case f.kind == hex:
		exact, err := f.inverse(value)
		if err != nil {
			return "", err
		}
		n, err := f.integerOf(value, exact)
		if err != nil {
			return "", err
		}
		return strings.ToUpper(n.Text(16)), nil
	}
	return f.decimalOf(value)
}

// decimalOf writes the decimal that reads back as value, or else as the nearest to it.
func (f *Format) decimalOf(value twin.Value) (string, error) {
	exact, err := f.inverse(value)
	if err != nil {
		return "", err
	}
	if n, ends := exact.FloatPrec(); ends {
		return exact.FloatString(n), nil
	}
	text, ok := f.readsBack(exact, value)
	if !ok && f.out == twin.TypeInt {
		return nearest(exact).String(), nil
	}
	if x, _ := value.AsFloat(); !ok { // its shortest decimal is at the edge of what reads back as it
		middle := new(big.Rat)
		middle.SetFloat64(x)
		middle.Quo(middle.Sub(middle, ratOf(f.scale.offset)), ratOf(f.scale.scale))
		text, _ = f.readsBack(middle, value)
	}
	return text, nil
}

// readsBack returns the fewest decimals of a number without an end that read back as value.
func (f *Format) readsBack(exact *big.Rat, value twin.Value) (text string, ok bool) {
	for n := range maxPlaces {
		text = exact.FloatString(n)
		if held, _ := f.DecodeText(text); held.Equal(value) {
			return text, true
		}
	}
	return text, false
}
