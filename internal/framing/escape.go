package framing

import "bytes"

// What SLIP (RFC 1055) and HDLC-like framing (RFC 1662 section 4.2) are made of.
const (
	slipEnd, slipEsc, slipEscEnd, slipEscEsc = 0xc0, 0xdb, 0xdc, 0xdd
	hdlcFlag, hdlcEsc, hdlcFlip              = 0x7e, 0x7d, 0x20
)

// finding is what a search for the end of a frame came to.
type finding uint8

const (
	unfinished finding = iota // it is not there; the search goes on at the place returned
	found                     // it is at the place returned
	begun                     // a Start is there before it
	broken                    // bytes are there that no sender would have sent
)

// finder searches for what ends a frame, over what is escaped.
type finder struct {
	mode        Mode
	with        []byte
	term, start []byte
}

// find searches w from a place on that is not within an escape. Where it returns unfinished, more
// bytes do not change what was seen before the place returned.
func (f *finder) find(w []byte, from int) (int, finding) {
	switch f.mode {
	case Prefix:
		return f.findPrefix(w, from)
	case Double:
		return f.findDouble(w, from)
	default: // the term cannot stand in what SLIP and HDLC escaped
		if i := bytes.Index(w[from:], f.term); i >= 0 {
			return from + i, found
		}
		return max(from, len(w)-len(f.term)+1), unfinished
	}
}

func (f *finder) findPrefix(w []byte, i int) (int, finding) {
	for i < len(w) {
		switch w[i] {
		case f.with[0]:
			if i+1 == len(w) {
				return i, unfinished
			}
			i += 2
		case f.term[0]:
			switch whole, part := match(w[i:], f.term); {
			case whole:
				return i, found
			case part:
				return i, unfinished
			}
			i++
		default:
			i++
		}
	}
	return i, unfinished
}

func (f *finder) findDouble(w []byte, i int) (int, finding) {
	e := f.with
	for {
		next := bytes.IndexByte(w[i:], e[0])
		if next < 0 {
			return len(w), unfinished
		}
		i += next
		whole, part := match(w[i:], e)
		if part {
			return i, unfinished
		}
		if !whole {
			i++
			continue
		}
		switch what := f.behind(w[i+len(e):]); what {
		case doubled:
			i += 2 * len(e)
		case literal:
			i++
		default:
			return i, what
		}
	}
}

// These go on from the findings: what else may be behind an escape sequence.
const (
	doubled = broken + 1 + iota
	literal
)

// behind tells what an escape sequence is by what follows it.
func (f *finder) behind(rest []byte) finding {
	e := f.with
	twice, part := match(rest, e)
	if twice {
		return doubled
	}
	ends, partEnd := match(rest, f.term[len(e):])
	if ends {
		return found
	}
	starts, partStart := false, false
	if bytes.HasPrefix(f.start, e) {
		starts, partStart = match(rest, f.start[len(e):])
	}
	switch {
	case starts:
		return begun
	case part || partEnd || partStart:
		return unfinished
	case len(e) > 1 && rest[0] == e[0]:
		// A run of the byte that is longer than e: the first of it is payload. It comes about
		// where a payload ends in a part of e.
		return literal
	default:
		return broken
	}
}

// match tells whether b begins with seq, or may when more bytes come.
func match(b, seq []byte) (whole, part bool) {
	if len(b) >= len(seq) {
		return bytes.Equal(b[:len(seq)], seq), false
	}
	return false, bytes.Equal(b, seq[:len(b)])
}

// unescape appends to dst what b stands for. b is what find went over. False: no sender would have sent it.
func (f *finder) unescape(dst, b []byte) ([]byte, bool) {
	switch f.mode {
	case SLIP:
		return unescapeByte(dst, b, slipEsc, func(c byte) (byte, bool) {
			return map2(c, slipEscEnd, slipEnd, slipEscEsc, slipEsc)
		})
	case HDLC:
		return unescapeByte(dst, b, hdlcEsc, func(c byte) (byte, bool) { return c ^ hdlcFlip, true })
	case Prefix:
		return unescapeByte(dst, b, f.with[0], func(c byte) (byte, bool) { return c, true })
	case Double:
		e := f.with
		for len(b) > 0 {
			i := bytes.Index(b, e)
			if i < 0 {
				break
			}
			dst = append(dst, b[:i]...)
			b = b[i:]
			if bytes.HasPrefix(b[len(e):], e) {
				dst = append(dst, e...)
				b = b[2*len(e):]
			} else {
				dst = append(dst, b[0])
				b = b[1:]
			}
		}
		return append(dst, b...), true
	default:
		return append(dst, b...), true
	}
}

func map2(c, a, toA, b, toB byte) (byte, bool) {
	switch c {
	case a:
		return toA, true
	case b:
		return toB, true
	default:
		return 0, false
	}
}

func unescapeByte(dst, b []byte, esc byte, of func(byte) (byte, bool)) ([]byte, bool) {
	for {
		i := bytes.IndexByte(b, esc)
		if i < 0 {
			return append(dst, b...), true
		}
		if i+1 == len(b) {
			return dst, false
		}
		c, ok := of(b[i+1])
		if !ok {
			return dst, false
		}
		dst = append(append(dst, b[:i]...), c)
		b = b[i+2:]
	}
}

// escape appends to dst what stands for b on the line.
func (f *finder) escape(dst, b []byte) []byte {
	switch f.mode {
	case SLIP:
		for _, c := range b {
			switch c {
			case slipEnd:
				dst = append(dst, slipEsc, slipEscEnd)
			case slipEsc:
				dst = append(dst, slipEsc, slipEscEsc)
			default:
				dst = append(dst, c)
			}
		}
		return dst
	case HDLC:
		for _, c := range b {
			if c == hdlcFlag || c == hdlcEsc {
				dst = append(dst, hdlcEsc)
				c ^= hdlcFlip
			}
			dst = append(dst, c)
		}
		return dst
	case Prefix:
		for _, c := range b {
			if c == f.with[0] || c == f.term[0] || len(f.start) > 0 && c == f.start[0] {
				dst = append(dst, f.with[0])
			}
			dst = append(dst, c)
		}
		return dst
	case Double:
		twice := append(append([]byte(nil), f.with...), f.with...)
		return append(dst, bytes.ReplaceAll(b, f.with, twice)...)
	default:
		return append(dst, b...)
	}
}
