package twin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// Kind is the JSON shape of a Value.
type Kind uint8

// The kinds of values. A Value is never null, an object or an array.
const (
	None   Kind = iota // no value: the zero Value
	Bool               // true, false
	Int                // an integer that fits int64
	Uint               // an integer above math.MaxInt64 that fits uint64
	Float              // a finite float64
	String             // UTF-8 text
)

// MaxStringValue bounds a string value, in bytes.
const MaxStringValue = 64 << 10

// Value is one property's value. Integers of 64 bits stay exact through JSON.
// Values are comparable with Equal; the zero Value is "no value".
type Value struct {
	kind Kind
	bits uint64
	text string
}

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	v := Value{kind: Bool}
	if b {
		v.bits = 1
	}
	return v
}

// IntValue returns an Int.
func IntValue(i int64) Value { return Value{kind: Int, bits: uint64(i)} }

// UintValue returns an Int where u fits int64, else a Uint.
func UintValue(u uint64) Value {
	if u <= math.MaxInt64 {
		return IntValue(int64(u))
	}
	return Value{kind: Uint, bits: u}
}

// FloatValue returns a Float. NaN and the infinities have no JSON form: they
// give the zero Value, which callers turn into a bad quality. Negative zero
// becomes zero, so that equal values compare equal.
func FloatValue(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	if f == 0 {
		f = 0
	}
	return Value{kind: Float, bits: math.Float64bits(f)}
}

// StringValue returns a String. Each run of bytes that are not UTF-8 becomes one U+FFFD.
func StringValue(s string) Value {
	if !utf8.ValidString(s) {
		s = string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD")))
	}
	return Value{kind: String, text: s}
}

// Kind returns the value's kind.
func (v Value) Kind() Kind { return v.kind }

// IsZero reports whether v is "no value".
func (v Value) IsZero() bool { return v.kind == None }

// AsBool returns the value of a Bool.
func (v Value) AsBool() (b, ok bool) { return v.bits == 1, v.kind == Bool }

// AsInt returns the value of an Int.
func (v Value) AsInt() (int64, bool) { return int64(v.bits), v.kind == Int }

// AsUint returns the value of a Uint or of an Int that is not negative.
func (v Value) AsUint() (uint64, bool) {
	return v.bits, v.kind == Uint || (v.kind == Int && int64(v.bits) >= 0)
}

// AsString returns the value of a String.
func (v Value) AsString() (string, bool) { return v.text, v.kind == String }

// AsFloat returns a number as float64, rounded where an integer is beyond 2^53.
func (v Value) AsFloat() (float64, bool) {
	switch v.kind {
	case Int:
		return float64(int64(v.bits)), true
	case Uint:
		return float64(v.bits), true
	case Float:
		return math.Float64frombits(v.bits), true
	}
	return 0, false
}

// Equal reports whether two values are the same. Numbers compare by value, so
// that 21 and 21.0 are equal; other kinds only equal their own kind.
func (v Value) Equal(w Value) bool {
	if v.kind == w.kind {
		return v == w
	}
	c, ok := v.Compare(w)
	return ok && c == 0
}

// Compare returns how two numbers relate, by value and without rounding:
// -1 where v is less than w, 0 where they are equal, else 1. ok is false where one is not a number.
func (v Value) Compare(w Value) (c int, ok bool) {
	a, okA := v.AsFloat()
	b, okB := w.AsFloat()
	if !okA || !okB {
		return 0, false
	}
	if a != b || (v.kind == Float && w.kind == Float) {
		return cmp.Compare(a, b), true // rounding to float64 never swaps two numbers
	}
	return v.exact().Cmp(w.exact()), true
}

// exact returns a number without rounding.
func (v Value) exact() *big.Float {
	switch v.kind {
	case Int:
		return new(big.Float).SetInt64(int64(v.bits))
	case Uint:
		return new(big.Float).SetUint64(v.bits)
	}
	return big.NewFloat(math.Float64frombits(v.bits))
}

// Text returns the value as plain text: true, -3, 20.5, hello. Floats have the
// fewest digits that read back the same, and never an exponent: EdgeCore refuses the
// '+' of "1e+06" (edge/pkg/devicetwin/dtcommon/util.go, ValidateTwinValue).
func (v Value) Text() string {
	switch v.kind {
	case Bool:
		return strconv.FormatBool(v.bits == 1)
	case Int:
		return strconv.FormatInt(int64(v.bits), 10)
	case Uint:
		return strconv.FormatUint(v.bits, 10)
	case Float:
		return strconv.FormatFloat(math.Float64frombits(v.bits), 'f', -1, 64)
	case String:
		return v.text
	}
	return ""
}

// String is Text with the zero Value shown as "<none>"; for logs.
func (v Value) String() string {
	if v.kind == None {
		return "<none>"
	}
	return v.Text()
}

// AppendJSON appends the value as JSON; the zero Value as null. A Float always
// has a fraction or an exponent, so that it reads back as a Float.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(b, v.bits == 1)
	case Int:
		return strconv.AppendInt(b, int64(v.bits), 10)
	case Uint:
		return strconv.AppendUint(b, v.bits, 10)
	case Float:
		return appendFloat(b, math.Float64frombits(v.bits))
	case String:
		return appendString(b, v.text)
	}
	return append(b, "null"...)
}

func appendFloat(b []byte, f float64) []byte {
	start := len(b)
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if format == 'f' && bytes.IndexByte(b[start:], '.') < 0 {
		b = append(b, '.', '0')
	}
	return b
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // cannot fail for a string
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// MarshalJSON is AppendJSON.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON reads a JSON boolean, number, string or null. A number without
// fraction and exponent that fits 64 bits is an integer, every other a Float.
func (v *Value) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return errors.New("value: empty")
	}
	switch string(b) {
	case "null":
		*v = Value{}
		return nil
	case "true", "false":
		*v = BoolValue(b[0] == 't')
		return nil
	}
	switch b[0] {
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("value: %w", err)
		}
		if len(s) > MaxStringValue {
			return fmt.Errorf("value: a string of %d bytes, at most %d are allowed", len(s), MaxStringValue)
		}
		*v = StringValue(s)
		return nil
	case '{', '[':
		return errors.New("value: want a boolean, a number or a string, not an object or an array")
	}
	n, err := parseNumber(string(b))
	if err != nil {
		return err
	}
	*v = n
	return nil
}

func parseNumber(s string) (Value, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return IntValue(i), nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return UintValue(u), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return Value{}, fmt.Errorf("value: %.40q is not a finite number", s)
	}
	return FloatValue(f), nil
}
