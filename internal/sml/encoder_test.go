package sml_test

import (
	"bytes"
	"encoding/binary"

	"github.com/twinline/twinline/internal/checksum"
)

// The encoder writes telegrams by the specification, independently of the decoder's code.

const x25, kermit = "crc-16/ibm-sdlc", "crc-16/kermit"

var escape = []byte{0x1b, 0x1b, 0x1b, 0x1b}

// join puts elements one after the other.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// tl writes type and length. For anything but a list the length counts its own bytes.
func tl(kind byte, n int, counted bool) []byte {
	for size := 1; ; size++ {
		total := n
		if counted {
			total += size
		}
		if total >= 1<<(4*size) {
			continue
		}
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(total>>(4*(size-1-i))) & 0x0f
			if i < size-1 {
				b[i] |= 0x80
			}
		}
		b[0] |= kind << 4
		return b
	}
}

func octetString(b string) []byte { return append(tl(0, len(b), true), b...) }
func listOf(parts ...[]byte) []byte {
	return append(tl(7, len(parts), false), join(parts...)...)
}

// number writes the low size bytes of n as type kind: 5 signed, 6 unsigned.
func number(kind byte, size int, n uint64) []byte {
	return append(tl(kind, size, true), binary.BigEndian.AppendUint64(nil, n)[8-size:]...)
}
func u8(n uint64) []byte  { return number(6, 1, n) }
func u16(n uint64) []byte { return number(6, 2, n) }
func u32(n uint64) []byte { return number(6, 4, n) }
func i8(n int8) []byte    { return number(5, 1, uint64(n)) }

var none = []byte{0x01}

// sum returns a checksum as it is on the line.
func sum(name string, b []byte) uint16 {
	algorithm, _ := checksum.Find(name)
	n := uint16(algorithm.Sum(b))
	if name == x25 {
		n = n<<8 | n>>8
	}
	return n
}

// message writes a message whose checksum is by the algorithm named.
func message(name string, tag uint64, body []byte) []byte {
	b := join([]byte{0x76}, octetString("\x01\x02\x03\x04"), u8(0), u8(0), listOf(u16(tag), body))
	return join(b, u16(uint64(sum(name, b))), []byte{0})
}

func opening() []byte {
	return listOf(none, none, octetString("\x00\x01"), octetString(server), none, none)
}

const server = "\x0a\x01EMH\x00\x00\xbc\x61\x4e"

// response writes the body of a GetListResponse.
func response(server string, at []byte, entries ...[]byte) []byte {
	return listOf(none, octetString(server), octetString("\x01\x00\x62\x0a\xff\xff"), at, listOf(entries...), none, none)
}

// entry writes a value without a status and a time.
func entry(name string, unit, scaler, value []byte) []byte {
	return listOf(octetString(name), none, none, unit, scaler, value, none)
}

// frame puts messages into a file, escaped and padded.
func frame(name string, messages ...[]byte) []byte {
	payload := join(messages...)
	out := join(escape, []byte{1, 1, 1, 1}, bytes.ReplaceAll(payload, escape, join(escape, escape)))
	pad := -len(out) & 3
	out = join(out, make([]byte, pad), escape, []byte{0x1a, byte(pad)})
	return binary.BigEndian.AppendUint16(out, sum(name, out))
}

// push writes the telegram of a meter that has these values.
func push(entries ...[]byte) []byte {
	return frame(x25,
		message(x25, 0x0101, opening()),
		message(x25, 0x0701, response(server, none, entries...)),
		message(x25, 0x0201, listOf(none)))
}
