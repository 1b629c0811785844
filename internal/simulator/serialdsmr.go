package simulator

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// encodeDSMR returns a telegram as DSMR 5 has it (P1 Companion Standard 5.0.2, section 6).
func encodeDSMR(t telegram) ([]byte, error) {
	number := t.sender
	if number == "" {
		number = "E0000000000000001"
	}
	var b strings.Builder
	b.WriteString("/TWL5\\TWINLINE\r\n\r\n1-3:0.2.8(50)\r\n")
	fmt.Fprintf(&b, "0-0:1.0.0(%s)\r\n", stampDSMR(t.now))
	if _, said := t.text("0-0:96.1.1"); !said {
		fmt.Fprintf(&b, "0-0:96.1.1(%X)\r\n", number)
	}
	for _, s := range t.samples {
		name, isTime := strings.CutSuffix(s.name, "@time")
		_, code, ok := strings.Cut(name, ":")
		if !ok || strings.ContainsAny(name, "#()@ ") {
			return nil, fmt.Errorf("the field %s is not played by itself", s.name)
		}
		if name == "0-0:1.0.0" {
			continue
		}
		if _, both := t.text(name); isTime && both {
			continue
		}
		text := s.text
		switch {
		case isTime:
			text = "0"
		case strings.HasPrefix(code, "96.1.") || strings.HasPrefix(code, "96.13.") || code == "42.0.0":
			text = strings.ToUpper(hex.EncodeToString([]byte(text)))
		case strings.ContainsAny(text, "()\r\n"):
			return nil, fmt.Errorf("%s: %q cannot stand in a telegram", s.name, text)
		}
		if code == "24.2.1" || isTime { // what another meter measured, with the time when
			text = stampDSMR(t.now) + ")(" + text
		}
		fmt.Fprintf(&b, "%s(%s%s)\r\n", name, text, unitDSMR(code))
	}
	b.WriteString("!")
	return fmt.Appendf([]byte(b.String()), "%04X\r\n", reflected16([]byte(b.String()), 0xA001, 0)), nil
}

// stampDSMR is a time as the standard writes it: here it is always winter, UTC+1.
func stampDSMR(t time.Time) string { return t.Add(time.Hour).Format("060102150405") + "W" }

// unitDSMR is the unit of a code, with what stands before it.
func unitDSMR(code string) string {
	for unit, prefixes := range map[string]string{"*kWh": "1.8. 2.8.", "*kW": "1.7. 2.7. 21.7. 22.7. 41.7. 42.7. 61.7. 62.7.", "*V": "32.7. 52.7. 72.7.", "*A": "31.7. 51.7. 71.7.", "*m3": "24.2."} {
		for _, prefix := range strings.Fields(prefixes) {
			if strings.HasPrefix(code, prefix) {
				return unit
			}
		}
	}
	return ""
}
