package timescale

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/twinline/twinline/pkg/twin"
)

// copyReader writes events as PostgreSQL's binary COPY format (PostgreSQL,
// COPY, "Binary Format"), one reading a row. It makes a few rows at a time.
type copyReader struct {
	events []*twin.Event
	series *dictionary
	buf    []byte
	off    int
	state  int
}

// The states of a copyReader.
const (
	copyHead = iota
	copyRows
	copyEnd
)

const (
	copySignature = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // no flags, no extension
	copyColumns   = 10
	copyNull      = 0xffffffff // a length of -1
	copyChunk     = 64 << 10
	postgresEpoch = 946_684_800_000_000 // 2000-01-01 in microseconds since 1970
)

func newCopyReader(events []*twin.Event, series *dictionary) *copyReader {
	return &copyReader{events: events, series: series, buf: make([]byte, 0, copyChunk+4096)}
}

// Read implements io.Reader.
func (c *copyReader) Read(p []byte) (int, error) {
	if c.off == len(c.buf) {
		if c.state == copyEnd {
			return 0, io.EOF
		}
		c.fill()
	}
	n := copy(p, c.buf[c.off:])
	c.off += n
	return n, nil
}

func (c *copyReader) fill() {
	c.buf, c.off = c.buf[:0], 0
	if c.state == copyHead {
		c.buf = append(c.buf, copySignature...)
		c.state = copyRows
	}
	for len(c.events) > 0 && len(c.buf) < copyChunk {
		c.event(c.events[0])
		c.events = c.events[1:]
	}
	if len(c.events) == 0 {
		c.buf = binary.BigEndian.AppendUint16(c.buf, 0xffff)
		c.state = copyEnd
	}
}

func (c *copyReader) event(e *twin.Event) {
	ids := c.series.devices[e.DeviceID]
	for i := range e.Readings {
		c.buf = appendRow(c.buf, e, &e.Readings[i], ids[e.Readings[i].Property])
	}
}

func appendRow(b []byte, e *twin.Event, r *twin.Reading, series int32) []byte {
	b = binary.BigEndian.AppendUint16(b, copyColumns)
	b = appendInt64(b, e.Time.UnixMicro()-postgresEpoch)
	if e.Epoch != 0 {
		b = appendInt64(b, int64(e.Epoch))
		b = appendInt64(b, int64(e.Seq))
	} else {
		b = appendNulls(b, 2)
	}
	kind := r.Value.Kind()
	if kind == twin.Float {
		f, _ := r.Value.AsFloat()
		b = appendInt64(b, int64(math.Float64bits(f)))
	} else {
		b = appendNulls(b, 1)
	}
	if kind == twin.Int {
		i, _ := r.Value.AsInt()
		b = appendInt64(b, i)
	} else {
		b = appendNulls(b, 1)
	}
	b = binary.BigEndian.AppendUint32(b, 4)
	b = binary.BigEndian.AppendUint32(b, uint32(series))
	switch kind {
	case twin.Bool:
		on, _ := r.Value.AsBool()
		b = binary.BigEndian.AppendUint32(b, 1)
		if on {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = appendNulls(b, 2)
	case twin.Uint:
		u, _ := r.Value.AsUint()
		b = appendNulls(b, 1)
		b = appendNumeric(b, u)
		b = appendNulls(b, 1)
	case twin.String:
		text, _ := r.Value.AsString()
		b = appendNulls(b, 2)
		b = appendText(b, text)
	default:
		b = appendNulls(b, 3)
	}
	if r.Quality.IsGood() {
		return appendNulls(b, 1)
	}
	return appendText(b, string(r.Quality))
}

func appendNulls(b []byte, n int) []byte {
	for range n {
		b = binary.BigEndian.AppendUint32(b, copyNull)
	}
	return b
}

func appendInt64(b []byte, i int64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, uint64(i))
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// appendNumeric appends u as a numeric: digits of base 10000, most significant first.
func appendNumeric(b []byte, u uint64) []byte {
	const base = 10_000
	var digits [5]uint16 // 20 decimal digits
	n := len(digits)
	for u > 0 {
		n--
		digits[n] = uint16(u % base)
		u /= base
	}
	used := digits[n:]
	b = binary.BigEndian.AppendUint32(b, uint32(8+2*len(used)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(used)))
	b = binary.BigEndian.AppendUint16(b, uint16(int16(len(used)-1))) // weight of the first digit
	b = binary.BigEndian.AppendUint32(b, 0)                          // positive, no fraction
	for _, d := range used {
		b = binary.BigEndian.AppendUint16(b, d)
	}
	return b
}
