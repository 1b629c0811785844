package framing

import (
	"math"
	"math/bits"
	"slices"
)

// size returns how many bytes the check has, without Mark.
func (k *Check) size() int {
	switch {
	case k.Encoding == Binary:
		return (k.Algorithm.Bits() + 7) / 8
	case k.Digits > 0:
		return k.Digits
	case k.Encoding == Hex:
		return (k.Algorithm.Bits() + 7) / 8 * 2
	default:
		return decimals(k.all())
	}
}

// all returns the bits that count.
func (k *Check) all() uint64 {
	all := ^uint64(0) >> (64 - k.Algorithm.Bits())
	if k.Mask != 0 {
		all &= k.Mask
	}
	return all
}

func decimals(n uint64) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// maxDigits keeps a number in 64 bits.
func maxDigits(e Encoding) int {
	if e == Hex {
		return 16
	}
	return decimals(math.MaxUint64) - 1
}

// holds returns the largest number that the check can show.
func (k *Check) holds() uint64 {
	n := k.size()
	switch k.Encoding {
	case Hex:
		if n >= 16 {
			return math.MaxUint64
		}
		return 1<<(4*n) - 1
	case Decimal:
		v := uint64(1)
		for range n {
			v *= 10
		}
		return v - 1
	default:
		return math.MaxUint64
	}
}

// place is a check in a frame of known length.
type place struct {
	from, to  int // covered
	mark      int // first byte of Mark, or at
	at, after int // the check
}

// in places the check in a frame of n bytes. False: it does not fit, or it would cover itself.
func (k *Check) in(n int) (place, bool) {
	fix := func(i int) int {
		if i < 0 {
			return n + i
		}
		return i
	}
	p := place{from: fix(k.From), to: fix(k.To), at: fix(k.At)}
	p.mark, p.after = p.at-len(k.Mark), p.at+k.size()
	if k.To == 0 {
		p.to = p.mark
		if p.from >= p.after {
			p.to = n
		}
	}
	apart := p.to <= p.mark || p.from >= p.after
	return p, p.mark >= 0 && p.after <= n && p.from >= 0 && p.from <= p.to && p.to <= n && apart
}

// right tells whether the check of a plain frame is right. scratch is for SevenBit and may grow.
func (k *Check) right(plain []byte, p place, scratch *[]byte) bool {
	if string(plain[p.mark:p.at]) != string(k.Mark) {
		return false
	}
	got, ok := k.read(plain[p.at:p.after])
	if !ok {
		return false
	}
	mask := k.Mask
	if mask == 0 {
		mask = math.MaxUint64
	}
	return got&mask == k.sum(plain[p.from:p.to], scratch)&mask
}

func (k *Check) sum(data []byte, scratch *[]byte) uint64 {
	if !k.SevenBit {
		return k.Algorithm.Sum(data)
	}
	low := append((*scratch)[:0], data...)
	for i := range low {
		low[i] &= 0x7f
	}
	*scratch = low
	return k.Algorithm.Sum(low)
}

// read returns the number that stands in b. False: these are no digits.
func (k *Check) read(b []byte) (uint64, bool) {
	var n uint64
	switch k.Encoding {
	case Hex:
		for _, c := range b {
			d, ok := hexDigit(c)
			if !ok {
				return 0, false
			}
			n = n<<4 | uint64(d)
		}
		if k.Little {
			n = bits.ReverseBytes64(n) >> (64 - 4*len(b))
		}
	case Decimal:
		for _, c := range b {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = n*10 + uint64(c-'0')
		}
	default:
		n = number(b, k.Little)
	}
	return n, true
}

// write puts the number into b.
func (k *Check) write(b []byte, n uint64) {
	n &= k.all()
	switch k.Encoding {
	case Hex:
		if k.Little {
			n = bits.ReverseBytes64(n) >> (64 - 4*len(b))
		}
		for i := len(b) - 1; i >= 0; i-- {
			b[i] = "0123456789ABCDEF"[n&15]
			n >>= 4
		}
	case Decimal:
		for i := len(b) - 1; i >= 0; i-- {
			b[i] = '0' + byte(n%10)
			n /= 10
		}
	default:
		putNumber(b, n, k.Little)
	}
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	default:
		return 0, false
	}
}

// number reads up to 8 bytes.
func number(b []byte, little bool) uint64 {
	var n uint64
	for i, c := range b {
		if little {
			n |= uint64(c) << (8 * i)
		} else {
			n = n<<8 | uint64(c)
		}
	}
	return n
}

// putNumber is the inverse of number.
func putNumber(b []byte, n uint64, little bool) {
	for i := range b {
		b[i] = byte(n >> (8 * (len(b) - 1 - i)))
	}
	if little {
		slices.Reverse(b)
	}
}

// problems says what is wrong with a check, but for its place.
func (k *Check) problems() []Problem {
	if k.Algorithm.Name() == "" {
		return []Problem{{"check.algorithm", "is missing", "name a checksum, for example xor8 or crc-16/modbus"}}
	}
	var list []Problem
	switch k.Encoding {
	case Binary:
		if k.Digits != 0 {
			list = append(list, Problem{"check.digits", "means nothing for a binary check", "leave it out, or set encoding to hex or decimal"})
		}
	case Hex, Decimal:
		switch {
		case k.Digits < 0 || k.Digits > maxDigits(k.Encoding):
			return append(list, Problem{"check.digits", "is out of range", "use 1 to 16 digits"})
		case k.Encoding == Decimal && k.Digits == 0 && k.size() > maxDigits(Decimal):
			return append(list, Problem{"check.encoding", "has no room for so wide a sum", "use hex or binary"})
		case k.holds() < k.all():
			list = append(list, Problem{"check.digits", "are too few for the sum", "leave it out, or set mask to the bits that are sent"})
		case k.Encoding == Decimal && k.Little:
			list = append(list, Problem{"check.little", "means nothing for decimal digits", "leave it out"})
		case k.Little && k.size()%2 != 0:
			list = append(list, Problem{"check.little", "needs whole bytes", "use an even number of digits"})
		}
	default:
		list = append(list, Problem{"check.encoding", "is unknown: " + string(k.Encoding), "use binary, hex or decimal"})
	}
	if k.all() == 0 {
		list = append(list, Problem{"check.mask", "leaves nothing of the sum", "set a bit that the sum has"})
	}
	return list
}
