package simulator

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/serial"
)

// sample is a field of a telegram, and its text.
type sample struct{ name, text string }

// telegram is what one telegram of a profile is to say.
type telegram struct {
	sender  string // "": any
	samples []sample
	now     time.Time
}

// text returns the text of a field; false: nothing is said of it.
func (t *telegram) text(name string) (string, bool) {
	for _, s := range t.samples {
		if s.name == name {
			return s.text, true
		}
	}
	return "", false
}

// profile returns the name of the instrument's profile.
func (i *Instrument) profile() string { return strings.ToLower(i.config.Profile) }

// telegram returns the frame of the profile that says what is shown; i.mu is held.
func (i *Instrument) telegram(shown []serial.Shown) ([]byte, error) {
	t, err := i.samples(shown)
	if err != nil {
		return nil, err
	}
	switch i.profile() {
	case "nmea":
		return encodeNMEA(t)
	case "dsmr":
		return encodeDSMR(t)
	case "sml":
		return encodeSML(t)
	case "iec62056":
		return pushIEC62056(t)
	case "toledo":
		return encodeToledo(t, i.config.Framing.After > 0)
	}
	return nil, fmt.Errorf("nothing is known of how the profile %s says it", i.config.Profile)
}

// samples returns the texts of what is shown, and of what tells its frames from others.
func (i *Instrument) samples(shown []serial.Shown) (telegram, error) {
	t := telegram{sender: i.config.Sender, now: time.Now().UTC()}
	for _, s := range shown {
		name, is := s.Field.Key()
		if !is {
			return t, fmt.Errorf("%s is not a field of the telegrams of the profile %s", s.Field.Property, i.config.Profile)
		}
		text, err := s.Field.Text(s.Value)
		if err != nil {
			return t, err
		}
		t.samples = append(t.samples, sample{name, text})
		for name, text := range s.Field.Fixed() {
			if _, said := t.text(name); !said {
				t.samples = append(t.samples, sample{name, text})
			}
		}
	}
	return t, nil
}

// reflected16 is a CRC of 16 bits with the polynomial poly, least significant bit first.
func reflected16(b []byte, poly, crc uint16) uint16 {
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= poly
			}
		}
	}
	return crc
}
