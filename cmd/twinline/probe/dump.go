package probe

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
)

// rowBytes is how many bytes stand in a row, as of hexdump -C.
const rowBytes = 16

// dump writes what comes as rows of bytes and text, with the time of the first byte of a row. A silence ends a row.
type dump struct {
	w     io.Writer
	start time.Time
	row   []byte
	at    time.Time // when the row's first byte came
	last  time.Time // when the last byte came
}

// take takes a chunk; one without bytes says that the line is quiet.
func (d *dump) take(c serial.Chunk) {
	if len(c.Data) == 0 {
		d.flush()
		return
	}
	d.gap(c.At)
	for _, b := range c.Data {
		if len(d.row) == 0 {
			d.at = c.At
		}
		if d.row = append(d.row, b); len(d.row) == rowBytes {
			d.flush()
		}
	}
	d.last = c.At
}

// gap ends the row after a silence, and says how long that was.
func (d *dump) gap(now time.Time) {
	if d.last.IsZero() || now.Sub(d.last) < identify.BurstGap {
		return
	}
	d.flush()
	fmt.Fprintf(d.w, "          -- %.3f s --\n", now.Sub(d.last).Seconds())
}

// flush writes the row that is begun.
func (d *dump) flush() {
	if len(d.row) == 0 {
		return
	}
	fmt.Fprintf(d.w, "%8.3f  %s\n", d.at.Sub(d.start).Seconds(), row(d.row))
	d.row = d.row[:0]
}

// row shows up to rowBytes bytes.
func row(b []byte) string {
	var hex, text strings.Builder
	for i := range rowBytes {
		if i == rowBytes/2 {
			hex.WriteByte(' ')
		}
		if i >= len(b) {
			hex.WriteString("   ")
			continue
		}
		fmt.Fprintf(&hex, "%02x ", b[i])
		if c := b[i]; c >= ' ' && c <= '~' {
			text.WriteByte(c)
		} else {
			text.WriteByte('.')
		}
	}
	return hex.String() + " |" + text.String() + "|"
}

// frames writes what comes frame by frame.
type frames struct {
	dump   dump
	reader *serial.Reader
	n      int
}

// take takes a chunk.
func (f *frames) take(c serial.Chunk) {
	if len(c.Data) > 0 {
		f.reader.Push(c)
	} else {
		f.reader.Quiet(c.At)
	}
	for h, ok := f.reader.Next(); ok; h, ok = f.reader.Next() {
		f.dump.gap(h.Frame.Began)
		f.n++
		note := ""
		if h.Err != nil {
			note = ", not read: " + h.Err.Error()
		}
		fmt.Fprintf(f.dump.w, "%8.3f  frame %d, %s%s\n", h.Frame.Began.Sub(f.dump.start).Seconds(), f.n, plural(len(h.Frame.Raw), "byte"), note)
		for b := h.Frame.Raw; len(b) > 0; b = b[min(rowBytes, len(b)):] {
			fmt.Fprintf(f.dump.w, "          %s\n", row(b[:min(rowBytes, len(b))]))
		}
		f.dump.last = h.Frame.At
	}
}
