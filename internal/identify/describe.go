package identify

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/serial"
)

// Traits are what bytes look like whatever they mean.
type Traits struct {
	Bytes     int
	Printable float64 // the share of ASCII that can be printed, and of line ends and tabs
	High      float64 // the share with bit 7 set
	Zero      float64 // the share of 00
	// Parity is "even" or "odd" where all bytes have it: characters of 7 bits, read as 8. Empty: they have none, or
	// are too few to tell.
	Parity string
	Bursts int // that a gap of BurstGap or more parts
}

// BurstGap is the silence that parts what instruments send at once. A USB adapter alone makes gaps of 16 ms.
const BurstGap = 50 * time.Millisecond

// Parity is only seen in so many bytes, of which so many have bit 7: by chance it is there once in 2^24.
const (
	minParity = 24
	minHigh   = 4
)

// Describe looks at bytes.
func Describe(heard []serial.Chunk) Traits {
	var t Traits
	var printable, high, zero, even int
	var last time.Time
	for _, c := range heard {
		if len(c.Data) > 0 && (t.Bursts == 0 || c.At.Sub(last) >= BurstGap) {
			t.Bursts++
		}
		last = c.At
		for _, b := range c.Data {
			t.Bytes++
			if isPrintable(b) {
				printable++
			}
			if b == 0 {
				zero++
			}
			high += int(b >> 7)
			even += 1 - bits.OnesCount8(b)&1
		}
	}
	if t.Bytes == 0 {
		return t
	}
	n := float64(t.Bytes)
	t.Printable, t.High, t.Zero = float64(printable)/n, float64(high)/n, float64(zero)/n
	if t.Bytes >= minParity && high >= minHigh && high < t.Bytes {
		switch even {
		case t.Bytes:
			t.Parity = "even"
		case 0:
			t.Parity = "odd"
		}
	}
	return t
}

func isPrintable(b byte) bool { return b >= ' ' && b <= '~' || b == '\r' || b == '\n' || b == '\t' }

// String says it in words.
func (t Traits) String() string {
	switch {
	case t.Bytes == 0:
		return "nothing"
	case t.Parity != "":
		return fmt.Sprintf("%s that look like 7 data bits with %s parity", count(t.Bytes, "byte"), t.Parity)
	}
	parts := []string{fmt.Sprintf("%s, %.0f %% printable", count(t.Bytes, "byte"), 100*t.Printable)}
	if t.High > 0 {
		parts = append(parts, fmt.Sprintf("%.0f %% with bit 7 set", 100*t.High))
	}
	if t.Zero >= 0.5 {
		parts = append(parts, "mostly 00: the rate is too high, or A and B are swapped")
	}
	return strings.Join(parts, ", ")
}
