package iec62056

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/telegram"
)

// Bounds of a data set. Section 6.3.14 has 16 characters for an address, 32
// (mode C: 128) for a value and 16 for a unit; meters exceed all three.
const (
	maxAddress = 64
	maxValue   = 1024
)

// Decode takes apart the data block of a data message: data sets
// "address(value*unit)", one or more on a line, up to "!" or the end of block. block is
// without STX, ETX and the block check character; it is not kept. Errors wrap ErrFormat; there is
// no telegram then, not even a part of one.
func Decode(block []byte) (telegram.Telegram, error) {
	if len(block) > MaxMessage {
		return telegram.Telegram{}, fmt.Errorf("data block: %w: %d bytes are more than %d", ErrFormat, len(block), MaxMessage)
	}
	if err := printable(block); err != nil {
		return telegram.Telegram{}, fmt.Errorf("data block: %w", err)
	}
	r := reader{seen: map[string]int{}}
	rest, ended := string(block), false
	for number := 1; rest != ""; number++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		line = strings.Trim(line, " \r")
		if ended && line != "" {
			return telegram.Telegram{}, fmt.Errorf("data block: %w: line %d comes after the end", ErrFormat, number)
		}
		if ended || line == "" {
			continue
		}
		line, ended = strings.CutSuffix(line, "!")
		if err := r.line(line); err != nil {
			return telegram.Telegram{}, fmt.Errorf("data block, line %d: %w", number, err)
		}
	}
	return telegram.Telegram{Fields: r.fields}, nil
}

// printable refuses what is not of a data block: characters of seven bits, and line ends.
func printable(block []byte) error {
	for i, c := range block {
		switch {
		case c == '\r' || c == '\n' || c >= ' ' && c < 0x7F:
		case c > 0x7F:
			return fmt.Errorf("%w: byte %d is 0x%02X; characters have seven bits and even parity", ErrFormat, i, c)
		default:
			return fmt.Errorf("%w: byte %d is the control character 0x%02X", ErrFormat, i, c)
		}
	}
	return nil
}

// reader collects the fields of one data block.
type reader struct {
	fields  []telegram.Field
	seen    map[string]int // how many values an address has, and which names are taken
	address string         // the last one
}

// line reads the data sets of one line.
func (r *reader) line(line string) error {
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		address, rest, ok := strings.Cut(line, "(")
		if !ok || strings.ContainsAny(address, ")!") {
			return fmt.Errorf("%w: %s is no data set", ErrFormat, quoted(line))
		}
		if len(address) > maxAddress {
			return fmt.Errorf("%w: the address %s has more than %d characters", ErrFormat, quoted(address), maxAddress)
		}
		if address = strings.TrimRight(address, " "); address != "" {
			r.address = address
		}
		value, rest, ok := strings.Cut(rest, ")")
		if !ok || strings.Contains(value, "(") {
			return fmt.Errorf("%w: %s has no end", ErrFormat, quoted(line))
		}
		if err := r.add(value); err != nil {
			return err
		}
		line = rest
	}
	return nil
}

// add adds what stands between two parentheses.
func (r *reader) add(value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("%w: a value of %s has more than %d characters", ErrFormat, r.address, maxValue)
	}
	if len(r.fields) == telegram.MaxFields {
		return fmt.Errorf("%w: more than %d values", ErrFormat, telegram.MaxFields)
	}
	f := telegram.Field{Name: r.name(r.address), Text: strings.Trim(value, " ")}
	if text, unit, ok := strings.Cut(f.Text, "*"); ok && unit != "" && !strings.Contains(unit, "*") {
		f.Text, f.Unit = strings.TrimRight(text, " "), strings.TrimLeft(unit, " ")
	}
	r.fields = append(r.fields, f)
	return nil
}

// name returns a name that no field has yet for the next value of an address.
func (r *reader) name(address string) string {
	for {
		r.seen[address]++
		n := r.seen[address]
		if n == 1 && address != "" {
			return address
		}
		name := address + "#" + strconv.Itoa(n)
		if r.seen[name] == 0 {
			r.seen[name] = 1
			return name
		}
	}
}

// quoted is a piece of a message, short enough for an error.
func quoted(s string) string {
	const enough = 40
	if len(s) > enough {
		s = s[:enough] + "…"
	}
	return strconv.Quote(s)
}
