package framing

import (
	"bufio"
	"bytes"
	"testing"
)

// line is a sentence of 60 bytes.
func line() []byte {
	c := NMEA('$')
	return c.Append(nil, bytes.Repeat([]byte("x"), 54))
}

func perFrame(b *testing.B, frames int) {
	b.ReportMetric(float64(frames)/b.Elapsed().Seconds(), "frames/s")
}

// BenchmarkScanNMEA scans lines of 60 bytes, in reads of 64 lines, of one line and of one byte.
func BenchmarkScanNMEA(b *testing.B) {
	for _, lump := range []struct {
		name string
		n    int
	}{{"64 lines", 64 * 60}, {"1 line", 60}, {"1 byte", 1}} {
		b.Run(lump.name, func(b *testing.B) {
			stream := bytes.Repeat(line(), 64)
			s := NewScanner(NMEA('$'))
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			frames := 0
			for b.Loop() {
				for i := 0; i < len(stream); i += lump.n {
					s.Push(stream[i:i+lump.n], epoch())
					for _, ok := s.Next(); ok; _, ok = s.Next() {
						frames++
					}
				}
			}
			perFrame(b, frames)
		})
	}
}

// BenchmarkBufio is what the standard library needs for the same lines, without their checks.
func BenchmarkBufio(b *testing.B) {
	stream := bytes.Repeat(line(), 64)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	frames := 0
	for b.Loop() {
		for s := bufio.NewScanner(bytes.NewReader(stream)); s.Scan(); {
			frames++
		}
	}
	perFrame(b, frames)
}

// BenchmarkAdversary is the worst that a stream can do: everything is a Start, nothing a frame.
func BenchmarkAdversary(b *testing.B) {
	for name, max := range map[string]int{"4096": 0, "64 KiB": MaxFrame} {
		b.Run(name, func(b *testing.B) {
			c := NMEA('$')
			c.Max = max
			s := NewScanner(c)
			stream := append(bytes.Repeat([]byte("$"), c.max()-10), "*00\r\n"...)
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				s.Push(stream, epoch())
				drain(s)
			}
		})
	}
}
