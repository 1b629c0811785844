package number

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// Bounds of a number in text: the longest float64 without an exponent has 326
// characters. An exponent beyond maxExponent gives no number, or none but zero.
const (
	maxNumber   = 512
	maxExponent = 2000
)

// decimal is a number as its digits say, without rounding: m times ten to exp.
// Zeros at the end are in exp, so equal numbers are equal decimals.
type decimal struct {
	neg bool
	m   uint64
	big *big.Int // in place of m where it is beyond 64 bits
	exp int
}

// parseDecimal reads a number: a sign, spaces, digits with at most one point among
// or beside them, an exponent. body is the text without the sign and the spaces.
func parseDecimal(text string) (d decimal, body string, ok bool) {
	body = text
	if body != "" && (body[0] == '-' || body[0] == '+') {
		d.neg = body[0] == '-'
		body = strings.TrimLeft(body[1:], " ")
	}
	digits, point, i := 0, -1, 0
	wide := false // m is not enough
	for ; i < len(body); i++ {
		c := body[i]
		if c == '.' && point < 0 {
			point = i
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		digits++
		hi, lo := bits.Mul64(d.m, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		wide = wide || hi != 0 || carry != 0
		d.m = sum
	}
	if digits == 0 {
		return decimal{}, body, false
	}
	if wide {
		whole := strings.Replace(body[:i], ".", "", 1)
		d.big, _ = new(big.Int).SetString(whole, 10)
	}
	if point >= 0 {
		d.exp = -(i - 1 - point)
	}
	if i < len(body) {
		n, ok := parseExponent(body[i:])
		if !ok {
			return decimal{}, body, false
		}
		d.exp += n
	}
	d.normalize()
	return d, body, true
}

// parseExponent reads "E+03"; what is beyond maxExponent is cut off there.
func parseExponent(text string) (int, bool) {
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	neg := strings.HasPrefix(text, "-")
	if neg || strings.HasPrefix(text, "+") {
		text = text[1:]
	}
	n := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(10*n+int(c-'0'), maxExponent)
	}
	if neg {
		n = -n
	}
	return n, text != ""
}

// normalize takes the zeros off the end.
func (d *decimal) normalize() {
	if d.big != nil {
		text := d.big.String()
		digits := strings.TrimRight(text, "0")
		d.exp += len(text) - len(digits)
		if m, err := strconv.ParseUint(digits, 10, 64); err == nil {
			d.m, d.big = m, nil
		} else {
			d.m = 0
			d.big, _ = new(big.Int).SetString(digits, 10)
		}
		return
	}
	if d.m == 0 {
		*d = decimal{}
		return
	}
	for d.m%10 == 0 {
		d.m /= 10
		d.exp++
	}
}

func (d *decimal) zero() bool { return d.m == 0 && d.big == nil }

func (d *decimal) equal(e *decimal) bool {
	if d.neg != e.neg || d.m != e.m || d.exp != e.exp || (d.big == nil) != (e.big == nil) {
		return false
	}
	return d.big == nil || d.big.Cmp(e.big) == 0
}

// rat returns d without rounding. It costs as much as exp is large, which
// parseDecimal has bounded.
func (d *decimal) rat() *big.Rat {
	n := d.big
	if n == nil {
		n = new(big.Int).SetUint64(d.m)
	}
	r := new(big.Rat)
	if d.exp >= 0 {
		r.SetInt(new(big.Int).Mul(n, pow10(d.exp)))
	} else {
		r.SetFrac(n, pow10(-d.exp))
	}
	if d.neg {
		r.Neg(r)
	}
	return r
}

// float returns the nearest float64 to the number whose digits are body.
func (d *decimal) float(body string) float64 {
	x, _ := strconv.ParseFloat(body, 64) // infinite where it is too large
	if d.neg {
		x = -x
	}
	return x
}

// uint64 returns the magnitude of d, if that is an integer of 64 bits.
func (d *decimal) uint64() (uint64, bool) {
	if d.big != nil || d.exp < 0 || d.exp > 19 {
		return 0, d.zero()
	}
	hi, lo := bits.Mul64(d.m, uint64Pow10(d.exp))
	return lo, hi == 0
}

// uint64Pow10 returns ten to n, which is at most 19.
func uint64Pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

// ofDecimal scales d, whose digits are body, to the nearest float64; ok is false where it is too large.
func (s *scaler) ofDecimal(d *decimal, body string) (x float64, ok bool) {
	if x, ok := s.quick(d); ok {
		return x, true
	}
	if s.identity {
		x = d.float(body)
		return x, !math.IsInf(x, 0)
	}
	r := s.exactOf(d)
	x, _ = r.Float64()
	return x, !math.IsInf(x, 0)
}

// quick is ofDecimal where numerator and denominator are float64s: one division,
// rounded once, is then the nearest.
func (s *scaler) quick(d *decimal) (float64, bool) {
	if !s.exact || d.big != nil || d.exp > 0 || s.decimals-d.exp > maxDecimals {
		return 0, false
	}
	n, okN := times(d.m, s.mul)
	add, okAdd := times(uint64Pow10(-d.exp), s.add)
	if d.neg {
		n = -n
	}
	n += add
	if !okN || !okAdd || max(n, -n) > maxExact {
		return 0, false
	}
	return float64(n) / float64(uint64Pow10(s.decimals-d.exp)), true
}

// times multiplies; ok is false beyond maxExact.
func times(a uint64, b int64) (n int64, ok bool) {
	hi, lo := bits.Mul64(a, uint64(max(b, -b)))
	if hi != 0 || lo > maxExact {
		return 0, false
	}
	if b < 0 {
		return -int64(lo), true
	}
	return int64(lo), true
}

// exactOf scales d without rounding.
func (s *scaler) exactOf(d *decimal) *big.Rat {
	r := d.rat()
	return r.Add(r.Mul(r, ratOf(s.scale)), ratOf(s.offset))
}
