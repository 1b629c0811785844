package serial

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// said is a field with the text or the bytes that stand for its value, and the value that these are.
type said struct {
	field *Field
	text  string
	bytes []byte
	want  twin.Value
}

// sayingOf returns the text or the bytes of a value. Which text fits its place is found out there.
func sayingOf(s Shown) (said, error) {
	one := said{field: s.Field}
	var err error
	if s.Field.binary {
		one.bytes, one.want, err = s.Field.format.Encode(s.Value)
	} else {
		one.text, one.want, err = s.Field.format.EncodeText(s.Value)
	}
	if err != nil {
		return one, fmt.Errorf("%s: %w", s.Field.Property, err)
	}
	if src := &s.Field.source; src.kind == byPlace && !s.Field.binary {
		fits := func(text string) bool { return len(text) <= src.length }
		if !one.reword(fits) {
			return one, fmt.Errorf("%s: %q has no room in %d bytes", s.Field.Property, one.text, src.length)
		}
		pad := strings.Repeat(" ", src.length-len(one.text))
		if _, isText := one.want.AsString(); isText {
			one.bytes = []byte(one.text + pad)
		} else {
			one.bytes = []byte(pad + one.text)
		}
	}
	return one, nil
}

// reword changes the text to one of its forms that is fit; false: none is.
func (s *said) reword(fit func(text string) bool) bool {
	for text := range forms(s.text, s.want) {
		if !fit(text) {
			continue
		}
		if v, q := s.field.format.DecodeText(text); !q.IsBad() {
			s.text, s.want = text, v
			return true
		}
	}
	return false
}

// forms yields the ways to write a value: of a number with fewer decimals, a sign, and zeros in front.
func forms(text string, v twin.Value) func(func(string) bool) {
	return func(yield func(string) bool) {
		if !yield(text) {
			return
		}
		if b, isBool := v.AsBool(); isBool {
			for _, word := range map[bool][]string{true: {"true", "on", "ON", "On", "TRUE"}, false: {"false", "off", "OFF", "Off", "FALSE"}}[b] {
				if !yield(word) {
					return
				}
			}
			return
		}
		x, err := strconv.ParseFloat(text, 64)
		if _, isNumber := v.AsFloat(); !isNumber || err != nil {
			_ = yield(strings.ToLower(text)) && yield("0x"+text)
			return
		}
		texts := []string{text}
		if v.Kind() == twin.Float || strings.Contains(text, ".") {
			texts = append(texts, rounded(x)...)
		}
		for _, t := range texts {
			digits, negative := strings.CutPrefix(t, "-")
			for width := range 17 {
				if width > 0 && width <= len(digits) {
					continue
				}
				padded := strings.Repeat("0", max(0, width-len(digits))) + digits
				signs := []string{"", "+", " "}
				if negative {
					signs = []string{"-"}
				}
				for _, sign := range signs {
					if !yield(sign + padded) {
						return
					}
				}
			}
		}
	}
}

// rounded returns x with 0 to 6 decimals: those that keep it first, then those that keep most of it.
func rounded(x float64) []string {
	const most = 6
	var exact, less []string
	for decimals := range most + 1 {
		text := strconv.FormatFloat(x, 'f', decimals, 64)
		if y, err := strconv.ParseFloat(text, 64); err == nil && y == x {
			exact = append(exact, text)
		} else {
			less = append(less, text)
		}
	}
	slices.Reverse(less)
	return append(exact, less...)
}
