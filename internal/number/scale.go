package number

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// scaler turns what a device holds into engineering units: raw*scale + offset.
//
// Scale and offset are taken as the decimals they were written as. An integer is
// scaled in integers and divided once by a power of ten, so 205 with the scale 0.1 is the
// float64 that prints as 20.5, never 20.500000000000004. Scales that are too large or too fine for that, and what the
// device already sends as a float, are scaled in float64 and rounded to 15 significant digits.
type scaler struct {
	identity bool
	exact    bool    // the next three hold
	mul, add int64   // scale and offset times ten to the decimals
	pow      float64 // ten to the decimals
	powInt   int64
	decimals int
	scale    float64
	offset   float64
}

// Bounds of exact scaling: powers of ten to 10^15 and integers to 2^53 are float64s.
const (
	maxDecimals = 15
	maxExact    = 1 << 53
)

func newScaler(scale, offset float64) scaler {
	s := scaler{identity: scale == 1 && offset == 0, scale: scale, offset: offset}
	mul, d1 := decimalOf(scale)
	add, d2 := decimalOf(offset)
	d := max(d1, d2)
	if mul == nil || add == nil || d > maxDecimals {
		return s
	}
	mul.Mul(mul, pow10(d-d1))
	add.Mul(add, pow10(d-d2))
	limit := big.NewInt(maxExact)
	if mul.CmpAbs(limit) > 0 || add.CmpAbs(limit) > 0 {
		return s
	}
	s.exact, s.mul, s.add = true, mul.Int64(), add.Int64()
	s.powInt, s.decimals = pow10(d).Int64(), d
	s.pow = float64(s.powInt)
	return s
}

// decimalOf returns x as an integer and a number of decimals, from its shortest text.
func decimalOf(x float64) (*big.Int, int) {
	text := strconv.FormatFloat(x, 'f', -1, 64)
	whole, frac, _ := strings.Cut(text, ".")
	if len(text) > 40 {
		return nil, 0
	}
	n, ok := new(big.Int).SetString(whole+frac, 10)
	if !ok {
		return nil, 0
	}
	return n, len(frac)
}

func pow10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// whole reports whether every scaled integer is an integer.
func (s *scaler) whole() bool { return s.exact && s.powInt == 1 }

// product returns raw*mul + add, of a raw that is negative where neg is set.
func (s *scaler) product(raw uint64, neg bool) (int64, bool) {
	if neg {
		raw = -raw
	}
	factor := uint64(s.mul)
	if s.mul < 0 {
		factor, neg = -factor, !neg
	}
	hi, lo := bits.Mul64(raw, factor)
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	n := int64(lo)
	if neg {
		n = -n
	}
	sum := n + s.add
	return sum, (s.add >= 0) == (sum >= n)
}

// float scales the integer raw, which is negative where neg is set (two's complement).
func (s *scaler) float(raw uint64, neg bool) float64 {
	x := float64(raw)
	if neg {
		x = float64(int64(raw))
	}
	if s.identity {
		return x
	}
	if !s.exact {
		return round15(x*s.scale + s.offset)
	}
	if n, ok := s.product(raw, neg); ok && max(n, -n) <= maxExact {
		return float64(n) / s.pow
	}
	return s.wide(raw, neg)
}

// wide is float for products that no float64 is: rounded once, at the end.
func (s *scaler) wide(raw uint64, neg bool) float64 {
	d := decimal{neg: neg, m: raw}
	if neg {
		d.m = -raw
	}
	x, _ := s.exactOf(&d).Float64()
	return x
}

// integer scales raw to an integer, cutting off decimals; ok is false beyond 64 bits.
func (s *scaler) integer(raw uint64, neg bool) (int64, bool) {
	if !s.exact {
		x := s.float(raw, neg)
		return int64(x), math.Abs(x) < math.MaxInt64
	}
	n, ok := s.product(raw, neg)
	return n / s.powInt, ok
}

// ofFloat scales what the device sends as a float.
func (s *scaler) ofFloat(x float64) float64 {
	if s.identity {
		return x
	}
	return round15(x*s.scale + s.offset)
}

// inverse returns the exact raw of value, which is decimal text.
func (s *scaler) inverse(value string) (*big.Rat, bool) {
	r, ok := new(big.Rat).SetString(value)
	if !ok {
		return nil, false
	}
	scale, offset := ratOf(s.scale), ratOf(s.offset)
	return r.Quo(r.Sub(r, offset), scale), true
}

func ratOf(x float64) *big.Rat {
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(x, 'g', -1, 64)) // finite: refused earlier
	return r
}

// nearest rounds half away from zero.
func nearest(r *big.Rat) *big.Int {
	two := big.NewInt(2)
	num := new(big.Int).Mul(r.Num(), two)
	if num.Sign() < 0 {
		num.Sub(num, r.Denom())
	} else {
		num.Add(num, r.Denom())
	}
	return num.Quo(num, two.Mul(two, r.Denom()))
}

// round15 rounds to 15 significant digits, which every float64 keeps.
func round15(x float64) float64 {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return x
	}
	var buf [32]byte
	text := strconv.AppendFloat(buf[:0], x, 'g', 15, 64)
	y, err := strconv.ParseFloat(string(text), 64)
	if err != nil { // NaN and the infinities pass through
		return x
	}
	return y
}

// shortest32 returns the float64 of the shortest decimal that is x in single
// precision: 20.1, not 20.100000381469727.
func shortest32(x float32) float64 {
	wide := float64(x)
	if wide == math.Trunc(wide) && math.Abs(wide) < 1<<24 {
		return wide
	}
	var buf [32]byte
	text := strconv.AppendFloat(buf[:0], wide, 'g', -1, 32)
	y, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return wide
	}
	return y
}
