// Package toledo reads the continuous output of METTLER TOLEDO weighing terminals, which
// many other makers' terminals send as well. Frame, checksum and status bytes are those of the METTLER TOLEDO
// WILDCAT Technical Manual (12/00), appendix 2, tables 6-8 to 6-11; units beyond g and t are those of newer terminals (IND560).
package toledo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// ErrFormat is wrapped when what came is no frame of continuous output.
var ErrFormat = errors.New("not a frame of continuous output")

// ErrChecksum is wrapped when the checksum of a frame is wrong.
var ErrChecksum = errors.New("wrong checksum")

// The frame: STX, three status bytes, six digits of weight, six of tare, CR, and a
// checksum where the terminal is set to send one. Short frames have no tare.
const (
	stx = 0x02
	cr  = 0x0D

	statusA = 1 // places in the frame
	statusB = 2
	statusC = 3
	weight  = 4
	digits  = 6

	shortSize = weight + digits + 1
	fullSize  = shortSize + digits
)

// Bits of the status bytes.
const (
	pointBits  = 0b111 // A: where the decimal point is
	netBit     = 1 << 0
	negative   = 1 << 1
	outOfRange = 1 << 2
	motionBit  = 1 << 3
	kilograms  = 1 << 4 // B, where C names no other unit
	powerUp    = 1 << 6 // zero was not captured since power was switched on
	unitBits   = 0b111
	printBit   = 1 << 3 // C
	expanded   = 1 << 4 // C: the weight is shown with a further digit
)

// Decode reads one frame, from STX to CR or to the checksum behind it; a
// checksum that is there must be right. The fields are
//   - weight: with its sign, and the decimals that the terminal shows. It is bad:over-range, or
//     bad:under-range where it is negative; bad:power-up before zero was captured; bad:expanded while the terminal shows ten times the
//     digits, of which the format does not say where the point is; bad:empty where no digit is shown.
//   - tare: not in short frames. It is bad:expanded and bad:empty alike.
//   - net, motion, outOfRange, powerUp, printRequest: true or false.
//   - unit: g, kg, t, oz, ozt, dwt, lb, ton, or custom. weight and tare have it too, but for custom.
//
// Errors wrap ErrFormat or ErrChecksum. Decode keeps nothing of frame and may be called concurrently.
func Decode(frame []byte) (telegram.Telegram, error) {
	f, err := whole(frame)
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("read continuous output: %w", err)
	}
	a, b, c := f[statusA], f[statusB], f[statusC]
	unit := unitOf(b, c)
	w := amount("weight", f[weight:weight+digits], a, b&negative != 0)
	switch {
	case b&outOfRange != 0 && b&negative != 0:
		w = bad("weight", "under-range")
	case b&outOfRange != 0:
		w = bad("weight", "over-range")
	case b&powerUp != 0:
		w = bad("weight", "power-up")
	}
	amounts := []telegram.Field{w}
	if len(f) == fullSize {
		amounts = append(amounts, amount("tare", f[weight+digits:weight+2*digits], a, false))
	}
	for i := range amounts {
		if c&expanded != 0 && !amounts[i].Quality.IsBad() {
			amounts[i] = bad(amounts[i].Name, "expanded")
		}
		if unit != custom {
			amounts[i].Unit = unit
		}
	}
	return telegram.Telegram{Fields: append(amounts,
		flag("net", b&netBit != 0), flag("motion", b&motionBit != 0), flag("outOfRange", b&outOfRange != 0),
		flag("powerUp", b&powerUp != 0), flag("printRequest", c&printBit != 0),
		telegram.Field{Name: "unit", Text: unit},
	)}, nil
}

// whole returns the frame through CR.
func whole(frame []byte) ([]byte, error) {
	n := len(frame)
	checked := false
	switch n {
	case shortSize, fullSize:
	case shortSize + 1, fullSize + 1:
		n--
		checked = true
	default:
		return nil, fmt.Errorf("%w: %d bytes, not %d or %d, or one more with a checksum", ErrFormat, n, shortSize, fullSize)
	}
	if frame[0] != stx || frame[n-1] != cr {
		return nil, fmt.Errorf("%w: STX and CR do not enclose it", ErrFormat)
	}
	sum := byte(0)
	for _, c := range frame[:n] {
		sum += c // the two's complement of its seven low bits is the checksum
	}
	if checked && (sum+frame[n])&0x7F != 0 {
		return nil, fmt.Errorf("%w: %02X and not %02X", ErrChecksum, frame[n]&0x7F, -sum&0x7F)
	}
	for i, c := range frame[statusA : n-1] {
		i += statusA
		if c < ' ' || c > 0x7F || i >= weight && c != ' ' && (c < '0' || c > '9') {
			return nil, fmt.Errorf("%w: %02X at %d", ErrFormat, c, i)
		}
	}
	return frame[:n], nil
}

// amount reads six places of which those in front may be blank.
func amount(name string, places []byte, a byte, minus bool) telegram.Field {
	text := strings.TrimLeft(string(places), " ")
	switch {
	case text == "":
		return bad(name, "empty")
	case strings.Contains(text, " "):
		return bad(name, "format")
	}
	const ones = 2 // the code of a point behind the last digit; below it are zeros that are not sent
	if point := int(a & pointBits); point <= ones {
		text += strings.Repeat("0", ones-point)
	} else {
		text = strings.Repeat("0", max(0, point-ones+1-len(text))) + text
		at := len(text) - (point - ones)
		text = text[:at] + "." + text[at:]
	}
	if minus && strings.Trim(text, "0.") != "" {
		text = "-" + text
	}
	return telegram.Field{Name: name, Text: text}
}

// custom is the unit that only the terminal knows.
const custom = "custom"

func unitOf(b, c byte) string {
	switch unit := [...]string{"", "g", "t", "oz", "ozt", "dwt", "ton", custom}[c&unitBits]; {
	case unit != "":
		return unit
	case b&kilograms != 0:
		return "kg"
	}
	return "lb"
}

func bad(name, why string) telegram.Field {
	return telegram.Field{Name: name, Quality: twin.Bad(why)}
}

func flag(name string, on bool) telegram.Field {
	if on {
		return telegram.Field{Name: name, Text: "true"}
	}
	return telegram.Field{Name: name, Text: "false"}
}
