// Package sml reads the telegrams that German electricity meters send by
// themselves: Smart Message Language 1.04 (BSI TR-03109-1, Anlage IV).
package sml

import (
	"errors"
	"fmt"

	"github.com/twinline/twinline/internal/telegram"
)

// ErrChecksum is wrapped when a telegram was damaged on its way: the checksum of
// the file or of one of its messages is wrong.
var ErrChecksum = errors.New("wrong checksum")

// ErrFormat is wrapped when a telegram is not SML, or not one that reports values.
var ErrFormat = errors.New("not a telegram of SML")

// Bounds of what is read. Meters send some hundred bytes with at most a few
// dozen values, nested six deep.
const (
	// MaxFile bounds the bytes of one telegram as it is on the line.
	MaxFile = 1 << 16
	// MaxDepth bounds how deep lists are nested, the message being the first.
	MaxDepth = 16
	// MaxList bounds the elements of one list.
	MaxList = telegram.MaxFields
)

// Decode reads one transport message, from the first escape sequence through
// the checksum: `1B1B1B1B 01010101 … 1B1B1B1B 1A pad crc crc`, as it came. A
// telegram is taken whole or not at all: all its checksums are right, and all its
// messages well formed.
//
// The fields are the values of all GetListResponse messages:
//   - The name is the OBIS code without its last part where that is 255:
//     "1-0:1.8.0", "1-0:1.8.0*96". A code that comes again is "1-0:1.8.0#2".
//   - Numbers are exact: the integer times ten to its scaler, "14798112.9".
//   - Octet strings are text if they are printable ASCII, an identification by
//     DIN 43863-5 as people write it, else hexadecimal in capitals.
//   - The unit is that of IEC 62056-6-2, "Wh"; "unit-N" where N is not known here.
//   - A time is RFC 3339 in UTC, or the seconds of a counter.
//   - A value left out is bad:empty, one of another structure bad:unsupported.
//   - A status word that comes with a value is a field too: "1-0:1.8.0#status",
//     in decimal notation.
//
// Sender is the number of the meter in the form of DIN 43863-5,
// "1EMH0012345678"; of another form it is written as an octet string is. Time is set where
// the meter has a clock; a counter of seconds, which most send, is none.
//
// Errors wrap ErrChecksum or ErrFormat. Decode keeps nothing and may be called concurrently.
func Decode(raw []byte) (telegram.Telegram, error) {
	payload, sum, err := unframe(raw)
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("read an SML telegram: %w", err)
	}
	f := file{sum: sum, seen: map[string]int{}}
	c := cursor{b: payload}
	for n := 1; c.at < len(c.b); n++ {
		if err := f.message(&c); err != nil {
			return telegram.Telegram{}, fmt.Errorf("read an SML telegram: message %d: %w", n, err)
		}
	}
	if !f.reported {
		return telegram.Telegram{}, fmt.Errorf("read an SML telegram: %w: no message has values", ErrFormat)
	}
	f.nameSender()
	return f.out, nil
}

// errorf returns an error that says what is wrong with the format.
func errorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}
