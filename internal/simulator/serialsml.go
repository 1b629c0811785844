package simulator

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// encodeSML returns a file with one list of values and its end, in the transport protocol, version 1
// (SML 1.04, BSI TR-03109-1 Anlage IV, sections 6 and 8).
func encodeSML(t telegram) ([]byte, error) {
	var entries []byte
	for _, s := range t.samples {
		entry, err := entrySML(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		entries = append(entries, entry...)
	}
	clock := listSML(2, numberSML(0x60, 1, 2), numberSML(0x60, 4, uint64(t.now.Unix()))) //nolint:gosec // the clock is after 1970
	values := append(listSML(len(t.samples)), entries...)
	body := listSML(7, leftOut(), octetsSML(serverSML(t.sender)), leftOut(), clock, values, leftOut(), leftOut())
	file := messageSML(1, 0x0701, body)
	file = append(file, messageSML(2, 0x0201, listSML(1, leftOut()))...)
	pad := (4 - len(file)%4) % 4
	file = append(file, make([]byte, pad)...)
	mark := []byte{0x1b, 0x1b, 0x1b, 0x1b}
	out := append(append([]byte(nil), mark...), 1, 1, 1, 1)
	out = append(out, bytes.ReplaceAll(file, mark, append(mark[:4:4], mark...))...)
	out = append(append(out, mark...), 0x1a, byte(pad))
	return binary.LittleEndian.AppendUint16(out, x25(out)), nil
}

// x25 is CRC-16/X-25 (ISO/IEC 13239), by which a file and its messages are guarded.
func x25(b []byte) uint16 { return ^reflected16(b, 0x8408, 0xFFFF) }

// leftOut is an optional element that is not there.
func leftOut() []byte { return []byte{0x01} }

// headSML is the type and the length of an element; kind is in the high bits.
func headSML(kind byte, length int) []byte {
	switch {
	case length < 0x10:
		return []byte{kind | byte(length)}
	case length < 0x100:
		return []byte{kind | 0x80 | byte(length>>4), byte(length & 0x0F)}
	}
	return []byte{kind | 0x80 | byte(length>>8&0x0F), 0x80 | byte(length>>4&0x0F), byte(length & 0x0F)}
}

func listSML(count int, parts ...[]byte) []byte {
	return append(headSML(0x70, count), bytes.Join(parts, nil)...)
}

// octetsSML is an octet string; the length counts its own bytes too.
func octetsSML(b []byte) []byte {
	head := 1
	for len(b)+head >= 1<<(4*head) {
		head++
	}
	return append(headSML(0, len(b)+head), b...)
}

// numberSML is a number of size bytes: kind 0x50 is signed, 0x60 is not.
func numberSML(kind byte, size int, n uint64) []byte {
	return append([]byte{kind | byte(size+1)}, binary.BigEndian.AppendUint64(nil, n)[8-size:]...)
}

// messageSML is one message with its checksum.
func messageSML(transaction byte, tag uint64, body []byte) []byte {
	m := listSML(6, octetsSML([]byte{'t', transaction}), numberSML(0x60, 1, 0), numberSML(0x60, 1, 0), listSML(2, numberSML(0x60, 2, tag), body))
	sum := x25(m)
	return append(append(m, 0x63, byte(sum), byte(sum>>8)), 0x00)
}

// entrySML is one value: name, status, time, unit, scaler, value, signature.
func entrySML(s sample) ([]byte, error) {
	code, err := codeSML(s.name)
	if err != nil {
		return nil, err
	}
	scaler, value := leftOut(), octetsSML([]byte(s.text))
	digits := strings.Replace(s.text, ".", "", 1)
	if n, ok := new(big.Int).SetString(digits, 10); ok && digits[0] != '+' {
		_, behind, _ := strings.Cut(s.text, ".")
		if len(behind) > 0 {
			scaler = numberSML(0x50, 1, uint64(int64(-len(behind)))) //nolint:gosec // two's complement is what is wanted
		}
		switch {
		case n.IsInt64():
			value = numberSML(0x50, 8, uint64(n.Int64())) //nolint:gosec // two's complement is what is wanted
		case n.IsUint64():
			value = numberSML(0x60, 8, n.Uint64())
		default:
			return nil, fmt.Errorf("%s has more than 64 bits", s.text)
		}
	}
	if s.text == "true" || s.text == "false" {
		value = []byte{0x42, map[string]byte{"true": 1}[s.text]}
	}
	return listSML(7, octetsSML(code), leftOut(), leftOut(), leftOut(), scaler, value, leftOut()), nil
}

// codeSML reads an OBIS code: A-B:C.D.E or A-B:C.D.E*F.
func codeSML(name string) ([]byte, error) {
	parts := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune("-:.*", r) })
	if len(parts) == 5 {
		parts = append(parts, "255")
	}
	code := make([]byte, 0, 6)
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return nil, errors.New("it is no OBIS code")
		}
		code = append(code, byte(n))
	}
	if len(code) != 6 {
		return nil, errors.New("it is no OBIS code")
	}
	return code, nil
}

// serverSML is the number of a meter: that of DIN 43863-5, "1TWL0000000001", in its ten bytes, hexadecimal digits, or text.
func serverSML(sender string) []byte {
	if sender == "" {
		sender = "1TWL0000000001"
	}
	if len(sender) == 14 && strings.Trim(sender[1:4], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		medium, err1 := strconv.ParseUint(sender[:1], 16, 4)
		block, err2 := strconv.ParseUint(sender[4:6], 16, 8)
		number, err3 := strconv.ParseUint(sender[6:], 10, 32)
		if err1 == nil && err2 == nil && err3 == nil {
			b := append([]byte{0x0a, byte(medium)}, sender[1:4]...)
			return binary.BigEndian.AppendUint32(append(b, byte(block)), uint32(number))
		}
	}
	if b, err := hex.DecodeString(sender); err == nil {
		return b
	}
	return []byte(sender)
}
