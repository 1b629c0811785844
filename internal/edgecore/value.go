package edgecore

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/twinline/twinline/pkg/twin"
)

// What EdgeCore takes as the name and the value of a twin's property
// (edge/pkg/devicetwin/dtcommon/util.go). An empty value is taken too.
const (
	MaxName  = 128
	MaxValue = 512
)

// The types EdgeCore knows (dtcommon/util.go, ValidateValue). It has none for
// DOUBLE and BYTES.
const (
	typeInt     = "int"
	typeFloat   = "float"
	typeBoolean = "boolean"
	typeString  = "string"
)

// Prefixes of values that do not fit EdgeCore's alphabet as they are.
const (
	escapedPrefix = "#:"    // bytes outside the alphabet, and '#', are '#' and two hexadecimal digits
	base64Prefix  = "#b64:" // base64, URL alphabet, no padding
)

// ErrValue is why a value cannot be told to EdgeCore.
var ErrValue = errors.New("value does not fit a twin")

// inAlphabet reports whether c is one of EdgeCore's [a-zA-Z0-9-_.,:/@#].
func inAlphabet(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("-_.,:/@#", c) >= 0
}

func allInAlphabet(s string) bool {
	for i := range len(s) {
		if !inAlphabet(s[i]) {
			return false
		}
	}
	return true
}

// ValidName reports whether EdgeCore takes s as the name of a property. It
// drops every property of a message that has one it does not take.
func ValidName(s string) bool { return s != "" && len(s) <= MaxName && allInAlphabet(s) }

// ValidValue reports whether EdgeCore takes s as a value.
func ValidValue(s string) bool { return len(s) <= MaxValue && allInAlphabet(s) }

// Encode writes any text in EdgeCore's alphabet, such that Decode gives it
// back. Text of the alphabet stays as it is; other text becomes "#:" with
// escapes ("20 °C" is "#:20#20#c2#b0C") or "#b64:" with base64, whichever is shorter.
// The error is ErrValue where the result is longer than MaxValue: at least
// 380 bytes of any text fit.
func Encode(text string) (string, error) {
	if ValidValue(text) && !strings.HasPrefix(text, escapedPrefix) && !strings.HasPrefix(text, base64Prefix) {
		return text, nil
	}
	escapes := 0
	for i := range len(text) {
		if c := text[i]; c == '#' || !inAlphabet(c) {
			escapes++
		}
	}
	escaped := len(escapedPrefix) + len(text) + 2*escapes
	encoded := len(base64Prefix) + base64.RawURLEncoding.EncodedLen(len(text))
	if min(escaped, encoded) > MaxValue {
		return "", fmt.Errorf("%w: %d bytes of text", ErrValue, len(text))
	}
	if encoded < escaped {
		return base64Prefix + base64.RawURLEncoding.EncodeToString([]byte(text)), nil
	}
	const digits = "0123456789abcdef"
	b := make([]byte, 0, escaped)
	b = append(b, escapedPrefix...)
	for i := range len(text) {
		c := text[i]
		if c == '#' || !inAlphabet(c) {
			b = append(b, '#', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b), nil
}

// Decode is the inverse of Encode. What Encode never writes, it returns as it
// is: twins are reported by others too.
func Decode(value string) string {
	if rest, ok := strings.CutPrefix(value, base64Prefix); ok {
		if b, err := base64.RawURLEncoding.Strict().DecodeString(rest); err == nil && utf8.Valid(b) {
			return string(b)
		}
		return value
	}
	rest, ok := strings.CutPrefix(value, escapedPrefix)
	if !ok {
		return value
	}
	b := make([]byte, 0, len(rest))
	for i := 0; i < len(rest); i++ {
		if rest[i] != '#' {
			b = append(b, rest[i])
			continue
		}
		if i+3 > len(rest) {
			return value
		}
		c, err := hex.DecodeString(rest[i+1 : i+3])
		if err != nil {
			return value
		}
		b = append(b, c[0])
		i += 2
	}
	if !utf8.Valid(b) {
		return value
	}
	return string(b)
}

// TypeOf returns EdgeCore's name of a type.
func TypeOf(t twin.Type) string {
	switch t {
	case twin.TypeInt:
		return typeInt
	case twin.TypeFloat, twin.TypeDouble:
		return typeFloat
	case twin.TypeBoolean:
		return typeBoolean
	}
	return typeString
}

// EncodeValue returns v as EdgeCore takes it for a property of type t. The
// error is ErrValue and says what does not fit: the kind, an integer beyond
// int64, a text that is too long.
func EncodeValue(t twin.Type, v twin.Value) (string, error) {
	switch TypeOf(t) {
	case typeInt:
		if v.Kind() == twin.Uint {
			return "", fmt.Errorf("%w: %s is above %d, the largest integer of a twin", ErrValue, v, int64(math.MaxInt64))
		}
		if v.Kind() != twin.Int {
			return "", fmt.Errorf("%w: %.80q is no integer", ErrValue, v)
		}
		return v.Text(), nil
	case typeFloat:
		if _, ok := v.AsFloat(); !ok {
			return "", fmt.Errorf("%w: %.80q is no number", ErrValue, v)
		}
		return v.Text(), nil
	case typeBoolean:
		if v.Kind() != twin.Bool {
			return "", fmt.Errorf("%w: %.80q is no boolean", ErrValue, v)
		}
		return v.Text(), nil
	}
	if v.IsZero() {
		return "", fmt.Errorf("%w: there is none", ErrValue)
	}
	return Encode(v.Text())
}
