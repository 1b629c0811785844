package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TimeLayout is how times are written on the bus and in events: RFC 3339 in UTC
// with microseconds, which is what TimescaleDB keeps.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// Reading is one property as one poll found it. A bad quality goes with the zero Value.
type Reading struct {
	Property string
	Value    Value
	Quality  Quality
	// Time is when the value was true, where it is not the Sample's: a device that
	// speaks by itself said it then, or gives the time by its own clock. It is not on the wire:
	// readings of another time are another Sample.
	Time time.Time
}

// BadReading returns a reading without a value.
func BadReading(property, why string) Reading {
	return Reading{Property: property, Quality: Bad(why)}
}

// Sample is what one poll of a device found, and one message on its
// TelemetryTopic. (Device, Epoch, Seq) names it for ever: Epoch rises with
// every start of the mapper, Seq with every sample of the device and starts at
// 1 in each epoch.
type Sample struct {
	Device   DeviceID
	Epoch    uint64
	Seq      uint64
	Time     time.Time // when the device was asked, UTC, microseconds
	Readings []Reading // each property at most once
}

// Bounds of a sample on the wire.
const (
	MaxSampleSize     = 1 << 20 // bytes of JSON
	MaxSampleReadings = 4096
	MaxPropertyLength = 128 // EdgeCore's bound on a twin's name (dtcommon/util.go)
)

// AppendJSON appends the sample as one JSON object:
//
//	{"device":"ns/name","epoch":3,"seq":17,"time":"2026-01-02T03:04:05.000006Z",
//	 "values":{"temperature":20.5},"quality":{"level":"bad:timeout"}}
//
// "quality" lists only what is not good and is left out when empty; a bad
// property has no value, and a property without a value that is not said to be bad is bad:null.
func (s *Sample) AppendJSON(b []byte) []byte {
	b = append(b, `{"device":`...)
	b = appendString(b, s.Device.String())
	b = append(b, `,"epoch":`...)
	b = strconv.AppendUint(b, s.Epoch, 10)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, s.Seq, 10)
	b = append(b, `,"time":"`...)
	b = s.Time.UTC().AppendFormat(b, TimeLayout)
	b = append(b, `","values":`...)
	b = appendValues(b, s.Readings)
	b = appendQuality(b, s.Readings)
	return append(b, '}')
}

func appendValues(b []byte, readings []Reading) []byte {
	b = append(b, '{')
	first := true
	for i := range readings {
		r := &readings[i]
		if r.Value.IsZero() || r.Quality.IsBad() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, r.Property)
		b = append(b, ':')
		b = r.Value.AppendJSON(b)
	}
	return append(b, '}')
}

// appendQuality appends `,"quality":{…}`, or nothing if all are good.
func appendQuality(b []byte, readings []Reading) []byte {
	first := true
	for i := range readings {
		r := &readings[i]
		q := r.Quality
		if r.Value.IsZero() && !q.IsBad() {
			q = Bad("null")
		}
		if q.IsGood() {
			continue
		}
		if first {
			b = append(b, `,"quality":{`...)
		} else {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, r.Property)
		b = append(b, ':')
		b = appendString(b, string(q))
	}
	if first {
		return b
	}
	return append(b, '}')
}

// MarshalJSON is AppendJSON.
func (s Sample) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil), nil }

// UnmarshalJSON reads what AppendJSON writes and refuses what breaks the
// contract: an unknown device id, no sequence, a bad property with a value, a
// good one without, more than the bounds. Readings come sorted by property.
func (s *Sample) UnmarshalJSON(b []byte) error {
	if len(b) > MaxSampleSize {
		return fmt.Errorf("sample: %d bytes, at most %d are allowed", len(b), MaxSampleSize)
	}
	var w struct {
		Device  DeviceID           `json:"device"`
		Epoch   uint64             `json:"epoch"`
		Seq     uint64             `json:"seq"`
		Time    time.Time          `json:"time"`
		Values  map[string]Value   `json:"values"`
		Quality map[string]Quality `json:"quality"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	if w.Device.IsZero() || w.Epoch == 0 || w.Seq == 0 || w.Time.IsZero() {
		return errors.New("sample: device, epoch, seq and time are all needed, and not zero")
	}
	if y := w.Time.UTC().Year(); y < 1970 || y > 9999 {
		return fmt.Errorf("sample of %s: the time is outside the years 1970 to 9999", w.Device)
	}
	readings, err := MergeReadings(w.Values, w.Quality)
	if err != nil {
		return fmt.Errorf("sample of %s: %w", w.Device, err)
	}
	*s = Sample{Device: w.Device, Epoch: w.Epoch, Seq: w.Seq, Time: w.Time.UTC().Truncate(time.Microsecond), Readings: readings}
	return nil
}

// MergeReadings joins the "values" and "quality" objects of a message, sorted by property.
func MergeReadings(values map[string]Value, quality map[string]Quality) ([]Reading, error) {
	if len(values)+len(quality) > 2*MaxSampleReadings {
		return nil, fmt.Errorf("more than %d properties", MaxSampleReadings)
	}
	readings := make([]Reading, 0, max(len(values), len(quality)))
	for name, v := range values {
		q := quality[name]
		if v.IsZero() {
			return nil, fmt.Errorf("property %.80q has a null value; leave it out and give its quality", name)
		}
		if q.IsBad() {
			return nil, fmt.Errorf("property %.80q is %s and yet has a value", name, q)
		}
		readings = append(readings, Reading{Property: name, Value: v, Quality: q})
	}
	for name, q := range quality {
		if _, ok := values[name]; ok {
			continue
		}
		if !q.IsBad() {
			return nil, fmt.Errorf("property %.80q is %s and yet has no value", name, q)
		}
		readings = append(readings, Reading{Property: name, Quality: q})
	}
	if len(readings) > MaxSampleReadings {
		return nil, fmt.Errorf("%d properties, at most %d are allowed", len(readings), MaxSampleReadings)
	}
	for i := range readings {
		if n := len(readings[i].Property); n == 0 || n > MaxPropertyLength {
			return nil, fmt.Errorf("property name %.80q has %d characters, want 1 to %d", readings[i].Property, n, MaxPropertyLength)
		}
		if !readings[i].Quality.Valid() {
			return nil, fmt.Errorf("property %.80q has quality %.80q; want good, uncertain:<why> or bad:<why>", readings[i].Property, readings[i].Quality)
		}
		if readings[i].Quality == Good {
			readings[i].Quality = ""
		}
	}
	slices.SortFunc(readings, func(a, b Reading) int { return strings.Compare(a.Property, b.Property) })
	return readings, nil
}
