// Package checksum has the sums and CRCs by which instruments guard their
// frames, by name.
package checksum

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// Algorithm computes one checksum. It never changes and is safe for concurrent
// use. Two values are the same algorithm if their names are; == does not tell. The zero
// value has no name, no bits, and a sum of 0.
type Algorithm struct {
	name string
	bits int
	sum  sum
	crc  *register // for sumCRC
}

// sum is how the bytes are put together.
type sum uint8

const (
	sumNone sum = iota
	sumAdd      // the sum modulo 2^bits
	sumTwos     // its two's complement: added to the sum it gives 0
	sumXor
	sumCRC
)

// simple are the algorithms that are no CRC.
//   - sum8-twos is Mettler Toledo's (continuous output), and the LRC of
//     Modbus over Serial Line V1.02 section 2.5.2.2.
//   - xor8 is the check of NMEA 0183, and the BCC of IEC 62056-21 (ISO 1155).
func simple() []struct {
	Algorithm
	aliases []string
} {
	return []struct {
		Algorithm
		aliases []string
	}{
		{Algorithm{name: "sum8", bits: 8, sum: sumAdd}, nil},
		{Algorithm{name: "sum8-twos", bits: 8, sum: sumTwos}, []string{"lrc"}},
		{Algorithm{name: "sum16", bits: 16, sum: sumAdd}, nil},
		{Algorithm{name: "xor8", bits: 8, sum: sumXor}, []string{"nmea", "bcc"}},
	}
}

// Find returns the algorithm of that name or alias, in any case: one of Names, or
// an alias of the catalogue of CRC RevEng ("crc-16/ccitt-false", "xmodem", "x-25"). It makes
// the table, so keep the value: 2 KiB and some microseconds a call.
func Find(name string) (Algorithm, bool) {
	name = strings.ToLower(name)
	for _, a := range simple() {
		if a.name == name || has(a.aliases, name) {
			return a.Algorithm, true
		}
	}
	for _, m := range catalogue() {
		if m.name == name || has(m.aliases, name) {
			return Algorithm{name: m.name, bits: m.width, sum: sumCRC, crc: newRegister(&m)}, true
		}
	}
	return Algorithm{}, false
}

func has(aliases []string, name string) bool {
	for _, a := range aliases {
		if a == name {
			return true
		}
	}
	return false
}

// Names returns the name of every algorithm, without aliases: the sums first, then the CRCs by width.
func Names() []string {
	var names []string
	for _, a := range simple() {
		names = append(names, a.name)
	}
	for _, m := range catalogue() {
		names = append(names, m.name)
	}
	return names
}

// Name returns the name by which Names lists the algorithm, whichever alias it was found by.
func (a Algorithm) Name() string { return a.name }

// Bits returns the width of the sum: 8 to 64.
func (a Algorithm) Bits() int { return a.bits }

// Sum returns the checksum of data, in the low Bits bits. It does not allocate.
func (a Algorithm) Sum(data []byte) uint64 {
	switch a.sum {
	case sumAdd:
		return add(data) & mask(a.bits)
	case sumTwos:
		return -add(data) & mask(a.bits)
	case sumXor:
		return xor(data)
	case sumCRC:
		return a.crc.sum(data)
	default:
		return 0
	}
}

func mask(width int) uint64 { return ^uint64(0) >> (64 - width) }

func add(data []byte) uint64 {
	var n uint64
	for _, b := range data {
		n += uint64(b)
	}
	return n
}

// xor takes eight bytes at a time, and folds them at the end.
func xor(data []byte) uint64 {
	var n uint64
	for len(data) >= 8 {
		n ^= binary.LittleEndian.Uint64(data)
		data = data[8:]
	}
	n ^= n >> 32
	n ^= n >> 16
	n ^= n >> 8
	for _, b := range data {
		n ^= uint64(b)
	}
	return n & 0xff
}

// register is a CRC with its table. It lies at the top of 64 bits, or at the
// bottom where the input is reflected, so that one step fits every width.
type register struct {
	table     [256]uint64
	init      uint64
	shift     int // from the register to the result
	reflected bool
	turn      bool // the result has the other order of bits than the register
	width     int
	xorOut    uint64
}

func newRegister(m *model) *register {
	r := &register{reflected: m.refIn, turn: m.refIn != m.refOut, width: m.width, xorOut: m.xorOut}
	if m.refIn {
		poly := reverse(m.poly, m.width)
		r.init = reverse(m.init, m.width)
		for i := range r.table {
			v := uint64(i)
			for range 8 {
				v = v>>1 ^ poly*(v&1)
			}
			r.table[i] = v
		}
		return r
	}
	r.shift = 64 - m.width
	poly := m.poly << r.shift
	r.init = m.init << r.shift
	for i := range r.table {
		v := uint64(i) << 56
		for range 8 {
			v = v<<1 ^ poly*(v>>63)
		}
		r.table[i] = v
	}
	return r
}

func (r *register) sum(data []byte) uint64 {
	v := r.init
	if r.reflected {
		for _, b := range data {
			v = v>>8 ^ r.table[byte(v)^b]
		}
	} else {
		for _, b := range data {
			v = v<<8 ^ r.table[byte(v>>56)^b]
		}
		v >>= r.shift
	}
	if r.turn {
		v = reverse(v, r.width)
	}
	return v ^ r.xorOut
}

// reverse turns the order of the low width bits.
func reverse(v uint64, width int) uint64 { return bits.Reverse64(v) >> (64 - width) }
