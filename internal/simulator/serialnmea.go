package simulator

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
)

// sentences are the types of NMEA 0183 that are played, with what stands in their places:
// a field with what it is where nothing is said of it ("=A"), 'M for a letter that is always there, ~ for what the
// clock says, and / for a field that takes two places, the second for its direction.
func sentences() map[string]string {
	return map[string]string{
		"GGA": "~time /latitude /longitude fixQuality=1 numSatellites=08 hdop=1.0 altitude 'M separation 'M dgpsAge dgpsId",
		"RMC": "~time validity=A /latitude /longitude speed course ~date /variation faaMode=A",
		"VTG": "trueTrack 'T magneticTrack 'M groundSpeedKnots 'N groundSpeedKPH 'K faaMode=A",
		"GLL": "/latitude /longitude ~time validity=A faaMode=A",
		"ZDA": "~time ~day ~month ~year offsetHours=00 offsetMinutes=00",
		"MWV": "windAngle reference=R windSpeed windSpeedUnit=M statusValid=A",
		"DBT": "depthFeet 'f depthMeters 'M depthFathoms 'F",
		"DPT": "depth offset=0.0",
		"HDT": "heading 'T",
		"MTW": "temperature 'C",
	}
}

// encodeNMEA returns one sentence. All samples are of one type.
func encodeNMEA(t telegram) ([]byte, error) {
	kind, _, _ := strings.Cut(t.samples[0].name, ".")
	layout, ok := sentences()[kind]
	if !ok {
		return nil, fmt.Errorf("sentences of type %s are not played by themselves", kind)
	}
	talker := t.sender
	switch {
	case talker != "":
	case strings.Contains("GGA RMC VTG GLL ZDA", kind):
		talker = "GP"
	default:
		talker = "II" // integrated instrumentation
	}
	line, used := "$"+talker+kind, 0
	for _, place := range strings.Fields(layout) {
		name, usual, _ := strings.Cut(strings.TrimLeft(place, "~/"), "=")
		text, said := t.text(kind + "." + name)
		if said {
			used++
		} else {
			text = usual
		}
		switch place[0] {
		case '\'':
			text = place[1:]
		case '~':
			text = clockNMEA(name, t)
		case '/':
			var err error
			if text, err = directed(name, text); err != nil {
				return nil, fmt.Errorf("%s.%s: %w", kind, name, err)
			}
		}
		if name == "statusValid" {
			text = map[string]string{"false": "V", "0": "V"}[text]
			if text == "" {
				text = "A"
			}
		}
		line += "," + text
	}
	if used < len(t.samples) {
		return nil, fmt.Errorf("a field that sentences of type %s are not played with: %v", kind, names(t.samples))
	}
	return append(sealNMEA([]byte(line)), '\r', '\n'), nil
}

// usualNMEA is what a field is where nothing is said of it; "": it is empty.
func usualNMEA(name string) string {
	kind, field, _ := strings.Cut(name, ".")
	for _, place := range strings.Fields(sentences()[kind]) {
		if name, usual, _ := strings.Cut(place, "="); name == field {
			return usual
		}
	}
	return ""
}

func names(samples []sample) (list []string) {
	for _, s := range samples {
		list = append(list, s.name)
	}
	return list
}

// clockNMEA is what the clock says in a place.
func clockNMEA(name string, t telegram) string {
	layout := map[string]string{"time": "150405.00", "date": "020106", "day": "02", "month": "01", "year": "2006"}[name]
	return t.now.Format(layout)
}

// directed returns a number as its amount and its direction. Latitudes and longitudes are degrees and minutes.
func directed(name, text string) (string, error) {
	letters, places, usual := "EW", 3, "0"
	switch name {
	case "latitude":
		letters, places = "NS", 2
	case "variation":
		places, usual = 0, ""
	}
	if text == "" {
		text = usual
	}
	if text == "" {
		return ",", nil
	}
	text, negative := strings.CutPrefix(text, "-")
	letter := letters[:1]
	if negative {
		letter = letters[1:]
	}
	if places == 0 {
		return text + "," + letter, nil
	}
	degrees, ok := new(big.Rat).SetString(text)
	if !ok {
		return "", fmt.Errorf("%q is no number of degrees", text)
	}
	const unit = 100_000_000 // of a degree, about a millimetre
	scaled := degrees.Mul(degrees, big.NewRat(unit, 1)).Add(degrees, big.NewRat(1, 2))
	n := new(big.Int).Quo(scaled.Num(), scaled.Denom())
	if !n.IsInt64() || n.Int64() > 180*unit {
		return "", fmt.Errorf("%s degrees", text)
	}
	whole, minutes := n.Int64()/unit, n.Int64()%unit*60
	return fmt.Sprintf("%0*d%02d.%08d,%s", places, whole, minutes/unit, minutes%unit, letter), nil
}

// sealNMEA puts the checksum behind a sentence that has none: all between $ and *, by exclusive or.
func sealNMEA(line []byte) []byte {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 || bytes.IndexByte(line, '*') >= 0 {
		return line
	}
	var sum byte
	for _, c := range line[1:] {
		sum ^= c
	}
	return fmt.Appendf(append([]byte(nil), line...), "*%02X", sum)
}
