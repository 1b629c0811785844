package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// encodeToledo returns a frame of continuous output (METTLER TOLEDO IND560 Technical Manual, appendix
// "Communications"): STX, three status bytes, six digits of weight, six of tare, CR; checked: and the checksum.
// What has more digits than these is rounded.
func encodeToledo(t telegram, checked bool) ([]byte, error) {
	weight, err := t.number("weight")
	if err != nil {
		return nil, err
	}
	tare, err := t.number("tare")
	if err != nil {
		return nil, err
	}
	decimals := 5 // the most that there is a code for
	for decimals > 0 && (!fitsToledo(weight, decimals) || !fitsToledo(tare, decimals) || exact(weight, decimals-1) && exact(tare, decimals-1)) {
		decimals--
	}
	if !fitsToledo(weight, decimals) || !fitsToledo(tare, decimals) || tare < 0 {
		return nil, fmt.Errorf("a weight of %g and a tare of %g have no six digits", weight, tare)
	}
	a, b, c := byte(0x28|2+decimals), byte(0x20), byte(0x20) // 2: the point is behind the last digit
	if weight < 0 {
		b |= 2
	}
	for _, s := range t.samples {
		on := s.text == "1" || s.text == "true"
		bit := map[string]byte{"net": 1, "outOfRange": 4, "motion": 8, "powerUp": 0x40, "printRequest": 8}[s.name]
		switch {
		case s.name == "weight", s.name == "tare", s.name == "unit":
		case bit == 0:
			return nil, fmt.Errorf("%s is no field of continuous output", s.name)
		case on && s.name == "printRequest":
			c |= bit
		case on:
			b |= bit
		}
	}
	unit, _ := t.text("unit")
	code := slices.Index([]string{"lb", "g", "t", "oz", "ozt", "dwt", "ton", "custom"}, unit)
	if code < 0 {
		code = 0
		b |= 0x10 // kg
	}
	frame := fmt.Appendf(nil, "\x02%c%c%c%s%s\r", a, b, c|byte(code), placesToledo(weight, decimals), placesToledo(tare, decimals))
	if checked {
		sum := byte(0)
		for _, x := range frame {
			sum -= x
		}
		frame = append(frame, sum&0x7F)
	}
	return frame, nil
}

// number returns the number that a field is; 0 where nothing is said of it.
func (t *telegram) number(name string) (float64, error) {
	text, said := t.text(name)
	if !said {
		return 0, nil
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}

// placesToledo are the digits of a number, without its sign and point.
func placesToledo(x float64, decimals int) string {
	text := strings.TrimPrefix(strconv.FormatFloat(x, 'f', decimals, 64), "-")
	return fmt.Sprintf("%06s", strings.Replace(text, ".", "", 1))
}

func fitsToledo(x float64, decimals int) bool { return len(placesToledo(x, decimals)) == 6 }

// exact reports whether a number has no more decimals than that.
func exact(x float64, decimals int) bool {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', max(0, decimals), 64), 64)
	return err == nil && x == y && decimals >= 0
}
