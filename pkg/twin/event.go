package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Event is a sample as it travels in the cloud: a record of the Kafka topic
// iot-telemetry (key DeviceID), and what anyone may post to the telemetry service. The
// reference form has three fields, {"device_id","timestamp","data":{…}};
// Twinline adds "quality", "epoch" and "seq".
type Event struct {
	DeviceID string    // "namespace/name" from Twinline; any text of 1 to MaxEventDeviceID bytes from others
	Time     time.Time // UTC, microseconds
	Epoch    uint64    // zero from other producers
	Seq      uint64    // zero from other producers
	Readings []Reading // sorted by property
}

// MaxEventDeviceID bounds the device id of a foreign event, in bytes.
const MaxEventDeviceID = 320

// EventOf returns the sample as an event. Readings are shared, not copied.
func EventOf(s *Sample) Event {
	return Event{DeviceID: s.Device.String(), Time: s.Time, Epoch: s.Epoch, Seq: s.Seq, Readings: s.Readings}
}

// AppendJSON appends the event as one JSON object.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"device_id":`...)
	b = appendString(b, e.DeviceID)
	b = append(b, `,"timestamp":"`...)
	b = e.Time.UTC().AppendFormat(b, TimeLayout)
	b = append(b, `","data":`...)
	b = appendValues(b, e.Readings)
	b = appendQuality(b, e.Readings)
	if e.Epoch != 0 {
		b = append(b, `,"epoch":`...)
		b = strconv.AppendUint(b, e.Epoch, 10)
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, e.Seq, 10)
	}
	return append(b, '}')
}

// MarshalJSON is AppendJSON.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// UnmarshalJSON reads an event of any producer. The timestamp may be RFC 3339,
// or ISO 8601 without a zone, which is taken as UTC (Python's
// datetime.utcnow().isoformat()), or a number of seconds or milliseconds since 1970.
// Unknown fields are allowed: others may say more than we store.
// A null in "data" becomes bad:null, unless "quality" already says why it is bad.
func (e *Event) UnmarshalJSON(b []byte) error {
	if len(b) > MaxSampleSize {
		return fmt.Errorf("event: %d bytes, at most %d are allowed", len(b), MaxSampleSize)
	}
	var w struct {
		DeviceID  string             `json:"device_id"`
		Timestamp json.RawMessage    `json:"timestamp"`
		Data      map[string]Value   `json:"data"`
		Quality   map[string]Quality `json:"quality"`
		Epoch     uint64             `json:"epoch"`
		Seq       uint64             `json:"seq"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	if n := len(w.DeviceID); n == 0 || n > MaxEventDeviceID {
		return fmt.Errorf("event: device_id has %d bytes, want 1 to %d", n, MaxEventDeviceID)
	}
	if (w.Epoch == 0) != (w.Seq == 0) {
		return errors.New("event: epoch and seq go together")
	}
	if len(w.Data) == 0 && len(w.Quality) == 0 {
		return errors.New("event: data has no property")
	}
	t, err := ParseEventTime(w.Timestamp)
	if err != nil {
		return err
	}
	if w.Quality == nil {
		w.Quality = map[string]Quality{}
	}
	for name, v := range w.Data {
		if v.IsZero() {
			delete(w.Data, name)
			if !w.Quality[name].IsBad() {
				w.Quality[name] = Bad("null")
			}
		}
	}
	readings, err := MergeReadings(w.Data, w.Quality)
	if err != nil {
		return fmt.Errorf("event of %.80q: %w", w.DeviceID, err)
	}
	*e = Event{DeviceID: w.DeviceID, Time: t, Epoch: w.Epoch, Seq: w.Seq, Readings: readings}
	return nil
}

// msThreshold parts seconds from milliseconds: 1e11 s is the year 5138, 1e11 ms is 1973.
const msThreshold = 1e11

// ParseEventTime reads the JSON of an event's timestamp; see Event.UnmarshalJSON.
// Years outside 1970 to 9999 are refused.
func ParseEventTime(raw json.RawMessage) (time.Time, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return time.Time{}, errors.New("event: timestamp is missing")
	}
	var t time.Time
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return time.Time{}, fmt.Errorf("event: timestamp: %w", err)
		}
		var err error
		if t, err = parseTimeText(s); err != nil {
			return time.Time{}, err
		}
	} else {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || !(f >= 0 && f <= 1e15) { // so that NaN is refused too
			return time.Time{}, fmt.Errorf("event: timestamp %.40s is not a time", raw)
		}
		if f < msThreshold {
			f *= 1000
		}
		t = time.UnixMicro(int64(math.Round(f * 1000)))
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("event: timestamp %.40s is outside the years 1970 to 9999", raw)
	}
	return t, nil
}

func parseTimeText(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("event: timestamp %.40q is not a time; write 2006-01-02T15:04:05.000000Z", s)
}
