package sml

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// obisSize is how many bytes an OBIS code has: A-B:C.D.E*F (IEC 62056-6-1).
const obisSize = 6

// obis returns an OBIS code as people write it; without F where it is 255, which is always so but for stored values.
func obis(b []byte) string {
	name := make([]byte, 0, 24)
	for i, before := range []string{"", "-", ":", ".", "."} {
		name = append(name, before...)
		name = strconv.AppendUint(name, uint64(b[i]), 10)
	}
	if b[5] != 255 {
		name = append(name, '*')
		name = strconv.AppendUint(name, uint64(b[5]), 10)
	}
	return string(name)
}

// scaled returns an integer times ten to the exponent, all digits kept.
func scaled(digits string, exponent int) string {
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	switch {
	case exponent > 0 && digits != "0":
		digits += strings.Repeat("0", exponent)
	case exponent < 0:
		if missing := 1 - exponent - len(digits); missing > 0 {
			digits = strings.Repeat("0", missing) + digits
		}
		point := len(digits) + exponent
		digits = digits[:point] + "." + digits[point:]
	}
	return sign + digits
}

// octetText returns an octet string as text, and one that is not printable as senderText does.
func octetText(b []byte) string {
	for _, x := range b {
		if x < ' ' || x > '~' {
			return senderText(b)
		}
	}
	return string(b)
}

// senderText returns the identification of a meter as DIN 43863-5 writes it: one
// digit for what it measures (1 is electricity), three letters of the maker, a block
// of two hexadecimal digits, and a number of eight. Else hexadecimal.
//
// The ten bytes are 09 or 0A (the edition of the norm), the medium, the letters,
// the block, and the number in 32 bits.
func senderText(b []byte) string {
	if len(b) != 10 || b[0] != 0x09 && b[0] != 0x0a || b[1] > 0xf {
		return strings.ToUpper(hex.EncodeToString(b))
	}
	for _, letter := range b[2:5] {
		if letter < 'A' || letter > 'Z' {
			return strings.ToUpper(hex.EncodeToString(b))
		}
	}
	number := bits(b[6:])
	if number > 99999999 {
		return strings.ToUpper(hex.EncodeToString(b))
	}
	return fmt.Sprintf("%X%s%02X%08d", b[1], b[2:5], b[5], number)
}

// asMeant returns the value as the meter meant it. DZG's DVS74 with these
// numbers send the power unsigned in one to three bytes, but say that it is signed:
// 328.05 W as -327.31 W. Negative power they send in four. The numbers are
// those for which libsml does the same.
func asMeant(e element, name []byte, server string) element {
	const power = "\x01\x00\x10\x07\x00\xff"
	if e.kind != integer || len(e.data) > 3 || string(name) != power {
		return e
	}
	if len(server) != 10 || !strings.HasPrefix(server, "\x0a\x01DZG") {
		return e
	}
	number := bits([]byte(server[5:]))
	if number >= 42000000 && number <= 48999999 || number >= 55000000 && number <= 58999999 {
		e.kind = unsigned
	}
	return e
}

// unitText returns the unit of a code of IEC 62056-6-2, 4.3.2, table 4. 0 is none; 255 says that there is none.
func unitText(code uint64) string {
	switch {
	case code == 0 || code == 255:
		return ""
	case code < uint64(len(units())):
		if u := units()[code]; u != "" {
			return u
		}
	}
	return "unit-" + strconv.FormatUint(code, 10)
}

// units returns the units by their codes; "" is a code that is not used, or not known here.
func units() [73]string {
	return [...]string{
		1: "a", 2: "mo", 3: "wk", 4: "d", 5: "h", 6: "min", 7: "s", 8: "deg", 9: "°C", 10: "currency",
		11: "m", 12: "m/s", 13: "m³", 14: "m³", 15: "m³/h", 16: "m³/h", 17: "m³/d", 18: "m³/d", 19: "l", 20: "kg",
		21: "N", 22: "Nm", 23: "Pa", 24: "bar", 25: "J", 26: "J/h", 27: "W", 28: "VA", 29: "var", 30: "Wh",
		31: "VAh", 32: "varh", 33: "A", 34: "C", 35: "V", 36: "V/m", 37: "F", 38: "Ω", 39: "Ωm²/m", 40: "Wb",
		41: "T", 42: "A/m", 43: "H", 44: "Hz", 45: "1/Wh", 46: "1/varh", 47: "1/VAh", 48: "V²h", 49: "A²h", 50: "kg/s",
		51: "S", 52: "K", 53: "1/(V²h)", 54: "1/(A²h)", 55: "1/m³", 56: "%", 57: "Ah",
		60: "Wh/m³", 61: "J/m³", 62: "Mol%", 63: "g/m³", 64: "Pa s",
		70: "dBm", 71: "dBµV", 72: "dB",
	}
}
