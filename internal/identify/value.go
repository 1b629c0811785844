package identify

import (
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

// typeOf guesses the type of a value from its text. A number with leading zeros and no
// unit is a number of a device rather than one to calculate with.
func typeOf(text, unit string) twin.Type {
	text = strings.TrimSpace(text)
	switch {
	case text == "true" || text == "false":
		return twin.TypeBoolean
	case !decimal(text):
		return twin.TypeString
	case strings.ContainsAny(text, ".eE"):
		return twin.TypeDouble
	}
	digits := strings.TrimLeft(text, "+- ")
	switch {
	case len(digits) > 1 && digits[0] == '0' && unit == "" && digits == text:
		return twin.TypeString
	case unit != "":
		return twin.TypeDouble // the next may have decimals
	case len(digits) > 18: // an INT may not hold it
		return twin.TypeString
	}
	return twin.TypeInt
}

// wider returns the type that fits the values of both.
func wider(a, b twin.Type) twin.Type {
	number := func(t twin.Type) bool { return t == twin.TypeInt || t == twin.TypeDouble }
	switch {
	case a == "" || a == b:
		return b
	case number(a) && number(b):
		return twin.TypeDouble
	}
	return twin.TypeString
}

// decimal reports whether text is a number as number.DecodeText reads it, without NaN.
func decimal(text string) bool {
	n := number(text)
	if n == 0 {
		return false
	}
	rest := text[n:]
	if rest == "" {
		return true
	}
	if rest[0] != 'e' && rest[0] != 'E' {
		return false
	}
	rest = strings.TrimLeft(rest[1:], "+-")
	return rest != "" && len(rest) <= 3 && strings.Trim(rest, "0123456789") == ""
}

// number returns how many bytes of text are a sign, spaces and digits with at most one point; 0: it begins with no number.
func number(text string) int {
	rest := strings.TrimLeft(strings.TrimLeft(text, "+-"), " ")
	if signs := len(text) - len(strings.TrimLeft(text, "+-")); signs > 1 || signs == 0 && len(rest) != len(text) {
		return 0
	}
	tail := strings.TrimLeft(rest, "0123456789")
	digits := len(rest) - len(tail)
	if fraction, is := strings.CutPrefix(tail, "."); is {
		tail = strings.TrimLeft(fraction, "0123456789")
		digits += len(fraction) - len(tail)
	}
	if digits == 0 {
		return 0
	}
	return len(text) - len(tail)
}

// maxUnit bounds a unit in bytes: "°C" has three, "mg/m3" five.
const maxUnit = 8

// measure parts a text into a number and what stands behind it, which is taken for its unit.
func measure(text string) (value, unit string, ok bool) {
	text = strings.TrimSpace(text)
	n := number(text)
	unit = strings.TrimSpace(text[n:])
	if n == 0 || unit == "" || len(unit) > maxUnit || strings.ContainsAny(unit, " \t,;:|=\"'0123456789-") && unit != "m3" {
		return "", "", false
	}
	return text[:n], unit, true
}

// numberPattern is a regular expression for a number and its sign, as a group.
const numberPattern = `([-+]?\s*[0-9]*\.?[0-9]+)`
