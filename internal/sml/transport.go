package sml

import (
	"bytes"
	"encoding/binary"

	"github.com/twinline/twinline/internal/checksum"
)

// The marks of the transport protocol, version 1 (SML 1.04, 8).
const (
	escape   = "\x1b\x1b\x1b\x1b"
	begin    = escape + "\x01\x01\x01\x01"
	endMark  = 0x1a
	markSize = 8 // an escape sequence and the four bytes that it introduces
	maxPad   = 4 // 3 by the specification; DZG's DVS74 fill four bytes up where nothing is to be filled
)

// unframe returns the messages inside raw with the escaping taken back, and the
// checksum that this meter uses.
func unframe(raw []byte) ([]byte, crc, error) {
	if len(raw) > MaxFile {
		return nil, crc{}, errorf("%d bytes; at most %d are read", len(raw), MaxFile)
	}
	if !bytes.HasPrefix(raw, []byte(begin)) {
		return nil, crc{}, errorf("it does not begin with an escape sequence and version 1")
	}
	out := make([]byte, 0, len(raw))
	for at := len(begin); at+markSize <= len(raw); {
		if string(raw[at:at+len(escape)]) != escape {
			out = append(out, raw[at])
			at++
			continue
		}
		mark := raw[at+len(escape) : at+markSize]
		switch {
		case string(mark) == escape: // the messages themselves have these four bytes
			out = append(out, escape...)
			at += markSize
		case mark[0] == endMark:
			return finish(raw, out, at+markSize)
		default:
			return nil, crc{}, errorf("escape sequence %X at byte %d", mark, at)
		}
	}
	return nil, crc{}, errorf("it has no end")
}

// finish checks a file that ends before the byte end, and takes the padding off its messages.
func finish(raw, out []byte, end int) ([]byte, crc, error) {
	if end != len(raw) {
		return nil, crc{}, errorf("%d bytes follow the end", len(raw)-end)
	}
	sum, ok := checksumOf(raw[:end-2], binary.BigEndian.Uint16(raw[end-2:end]))
	if !ok {
		return nil, crc{}, ErrChecksum
	}
	pad := int(raw[end-3])
	if pad > maxPad || pad > len(out) {
		return nil, crc{}, errorf("%d bytes of padding", pad)
	}
	return out[:len(out)-pad], sum, nil
}

// crc is the checksum of a file and of its messages.
type crc struct {
	algorithm checksum.Algorithm
	swapped   bool
}

// checksumOf returns the checksum by which b has the sum want, which is read as it is on
// the line, the first byte the high one. By the specification it is CRC-16/X-25 with the low
// byte first. Some meters (Holley DTZ541) use CRC-16/KERMIT with the high byte first,
// in the file and in all its messages.
func checksumOf(b []byte, want uint16) (crc, bool) {
	for _, known := range []struct {
		name    string
		swapped bool
	}{{"crc-16/ibm-sdlc", true}, {"crc-16/kermit", false}} {
		algorithm, ok := checksum.Find(known.name)
		c := crc{algorithm: algorithm, swapped: known.swapped}
		if ok && c.matches(b, want) {
			return c, true
		}
	}
	return crc{}, false
}

// matches reports whether b has the sum want.
func (c crc) matches(b []byte, want uint16) bool {
	got := uint16(c.algorithm.Sum(b))
	if c.swapped {
		got = got<<8 | got>>8
	}
	return got == want
}
