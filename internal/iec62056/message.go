package iec62056

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/twinline/twinline/internal/telegram"
)

// DecodeMessage takes apart a whole data message: an identification message or
// none, then the data block, between STX and ETX with the block check character behind
// it, or bare up to "!" and the line end, as in modes A and D. What is between STX and
// ETX is only read if the check character is right. raw is not kept. Errors wrap ErrDamaged where the message
// is not whole, else ErrFormat.
func DecodeMessage(raw []byte) (telegram.Telegram, error) {
	var id Identification
	if len(raw) > 0 && raw[0] == '/' {
		line, rest, ok := bytes.Cut(raw, []byte("\n"))
		if !ok {
			return telegram.Telegram{}, fmt.Errorf("data message: %w: it ends with the identification", ErrDamaged)
		}
		var err error
		if id, err = ParseIdentification(line); err != nil {
			return telegram.Telegram{}, fmt.Errorf("data message: %w", err)
		}
		raw = rest
	}
	return id.message(raw)
}

// message decodes the data message behind an identification.
func (id Identification) message(raw []byte) (telegram.Telegram, error) {
	block, err := unwrap(raw)
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("data message: %w", err)
	}
	return id.decode(block)
}

// decode decodes a data block of the meter with this identification.
func (id Identification) decode(block []byte) (telegram.Telegram, error) {
	t, err := Decode(block)
	if err != nil {
		return telegram.Telegram{}, err
	}
	t.Sender = id.Ident
	return t, nil
}

// unwrap returns the data block of a message, checked where it has a check character.
func unwrap(raw []byte) ([]byte, error) {
	if len(raw) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrDamaged, len(raw), MaxMessage)
	}
	if len(raw) > 0 && (raw[0] == stx || raw[0] == soh) {
		return checked(raw)
	}
	if end := bytes.TrimRight(raw, "\r\n"); len(end) == len(raw) || !bytes.HasSuffix(end, []byte("!")) {
		return nil, fmt.Errorf("%w: no block check character, and no \"!\" at the end", ErrDamaged)
	}
	return raw, nil
}

// checked returns what stands between STX and ETX if the block check character
// is right: all characters after the first STX or SOH up to and with ETX, by exclusive or
// (section 6.3.14, ISO/IEC 1155 and 1745).
func checked(raw []byte) ([]byte, error) {
	end := bytes.IndexByte(raw, etx)
	switch {
	case end < 0:
		return nil, fmt.Errorf("%w: no ETX", ErrDamaged)
	case end == len(raw)-1:
		return nil, fmt.Errorf("%w: no block check character", ErrDamaged)
	case end < len(raw)-2:
		return nil, fmt.Errorf("%w: %d bytes after the block check character", ErrDamaged, len(raw)-2-end)
	}
	if want, got := bcc(raw[1:end+1]), raw[end+1]; want != got {
		return nil, fmt.Errorf("%w: the block check character is 0x%02X and not 0x%02X", ErrDamaged, got, want)
	}
	block := raw[1:end]
	if raw[0] == soh { // a command of two characters stands before STX, or alone
		if i := bytes.IndexByte(block, stx); i >= 0 {
			return block[i+1:], nil
		}
		return nil, fmt.Errorf("%w: a command, %s, and no data", ErrFormat, quoted(string(block)))
	}
	return block, nil
}

// bcc is the block check character of what follows STX or SOH, up to and with ETX.
func bcc(b []byte) byte {
	var sum byte
	for _, c := range b {
		sum ^= c
	}
	return sum
}

// Identification is the identification message of section 6.3.2: "/XXXZ\Wident".
type Identification struct {
	// Manufacturer are the three letters that the FLAG association registers. The third in lower case says that
	// the meter may answer after 20 instead of 200 ms.
	Manufacturer string
	// Rate is the baud rate character Z.
	Rate byte
	// Mode is what Z says: ModeC for 0 to 6, ModeB for A to F, else ModeA. A meter of mode D has '3' as well.
	Mode Mode
	// Baud is the rate that Z stands for; 0 in mode A.
	Baud int
	// Enhanced is the character W behind a backslash: '2' is a meter that can speak HDLC (mode E) too. 0: none.
	Enhanced byte
	// Ident is the rest: type, version or number, as the manufacturer likes.
	Ident string
}

// maxIdent bounds the identification; section 6.3.14 has 16 characters.
const maxIdent = 64

// ParseIdentification reads an identification message, with or without its line
// end. Errors wrap ErrFormat.
func ParseIdentification(message []byte) (Identification, error) {
	s := strings.TrimRight(string(message), "\r\n")
	if len(s) < 5 || s[0] != '/' || !letters(s[1:4]) {
		return Identification{}, fmt.Errorf("identification %s: %w", quoted(s), ErrFormat)
	}
	id := Identification{Manufacturer: s[1:4], Rate: s[4], Ident: s[5:]}
	for _, c := range []byte(s[4:]) {
		if c < ' ' || c >= 0x7F || c == '/' || c == '!' {
			return Identification{}, fmt.Errorf("identification %s: %w: the character 0x%02X", quoted(s), ErrFormat, c)
		}
	}
	if len(id.Ident) > maxIdent {
		return Identification{}, fmt.Errorf("identification %s: %w: more than %d characters", quoted(s), ErrFormat, maxIdent)
	}
	if len(id.Ident) >= 2 && id.Ident[0] == '\\' {
		id.Enhanced, id.Ident = id.Ident[1], id.Ident[2:]
	}
	id.Mode, id.Baud = ModeA, 0
	if baud := baudOf(id.Rate, '0', initialBaud, 7); baud > 0 {
		id.Mode, id.Baud = ModeC, baud
	} else if baud := baudOf(id.Rate, 'A', 2*initialBaud, 6); baud > 0 {
		id.Mode, id.Baud = ModeB, baud
	}
	return id, nil
}

// baudOf is the rate of a character of n that follow first, each twice the one before; 0: it is none of them.
func baudOf(c, first byte, slowest, n int) int {
	if c < first || int(c-first) >= n {
		return 0
	}
	return slowest << (c - first)
}

func letters(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
