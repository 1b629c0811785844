package edgecore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// MaxMessage bounds the messages that are read, in bytes. EdgeCore repeats in
// its answers what it was told; MaxUpdate bounds that.
const MaxMessage = 4 << 20

// MaxUpdate bounds a twin/update, in bytes: half of what its document (before
// and after) may be in one packet of common brokers, and 90 properties at the least.
const MaxUpdate = 64 << 10

// Answer codes of EdgeCore (devicetwin/dtcommon/common.go). An accepted
// message has none.
const (
	CodeBadRequest = 400
	CodeNotFound   = 404
	CodeConflict   = 409
	CodeInternal   = 500
)

// Actual is one property to report. A zero Type removes the property from
// EdgeCore's twin; the next report makes it anew with any type.
type Actual struct {
	Name  string
	Value string // of the alphabet: see EncodeValue
	Type  string // see TypeOf
}

type updateWire struct {
	EventID   string               `json:"event_id"`
	Timestamp int64                `json:"timestamp"` // ms; EdgeCore does not use it
	Twin      map[string]*twinWire `json:"twin"`
}

type twinWire struct {
	Actual   *valueWire `json:"actual,omitempty"`
	Expected *valueWire `json:"expected,omitempty"`
	Metadata *typeWire  `json:"metadata,omitempty"`
}

// valueWire always has a value: EdgeCore crashes on an actual without one.
type valueWire struct {
	Value    *string   `json:"value"`
	Metadata *timeWire `json:"metadata,omitempty"`
}

type typeWire struct {
	Type string `json:"type,omitempty"`
}

type timeWire struct {
	Timestamp int64 `json:"timestamp,omitempty"`
}

// TwinUpdate returns the message that reports the properties. Names and
// values must be valid, and names be unique.
func TwinUpdate(eventID string, at time.Time, properties []Actual) []byte {
	w := updateWire{EventID: eventID, Timestamp: at.UnixMilli(), Twin: make(map[string]*twinWire, len(properties))}
	for i := range properties {
		p := &properties[i]
		if p.Type == "" {
			w.Twin[p.Name] = nil
			continue
		}
		w.Twin[p.Name] = &twinWire{
			Actual:   &valueWire{Value: &p.Value, Metadata: &timeWire{w.Timestamp}},
			Metadata: &typeWire{p.Type},
		}
	}
	return encode(w)
}

// updateFrame is an upper bound of a TwinUpdate without properties.
const updateFrame = 256

// updateSize returns an upper bound of what p adds to a TwinUpdate.
func (p *Actual) updateSize() int {
	const fixed = len(`"":{"actual":{"value":"","metadata":{"timestamp":1700000000000}},"metadata":{"type":""}},`)
	return fixed + len(p.Name) + len(p.Value) + len(p.Type)
}

// TwinGet returns the message that asks for a twin, or for a membership.
func TwinGet(eventID string, at time.Time) []byte {
	return encode(struct {
		EventID   string `json:"event_id"`
		Timestamp int64  `json:"timestamp"`
	}{eventID, at.UnixMilli()})
}

// StateUpdate returns the message that reports a device's state.
func StateUpdate(eventID string, at time.Time, state twin.DeviceState) []byte {
	return encode(struct {
		EventID   string           `json:"event_id"`
		Timestamp int64            `json:"timestamp"`
		State     twin.DeviceState `json:"state"`
	}{eventID, at.UnixMilli(), state})
}

func encode(w any) []byte {
	b, err := json.Marshal(w)
	if err != nil {
		panic(err) // structs of strings and numbers: cannot be
	}
	return b
}

// Property is what EdgeCore knows of a property.
type Property struct {
	Type     string
	Actual   Datum
	Expected Datum
}

// Datum is a value of EdgeCore with the time when it came to know it.
type Datum struct {
	Value string // as EdgeCore has it: see Decode
	Known bool   // whether there is one
	Time  time.Time
}

// Result is an answer to a twin/update or twin/get.
type Result struct {
	EventID string
	Time    time.Time
	Code    int // 0: accepted
	Reason  string
	Twin    map[string]Property // accepted: what is now
}

// DecodeResult reads an answer to twin/update or twin/get.
func DecodeResult(payload []byte) (Result, error) {
	var w struct {
		updateWire
		Code   int    `json:"code"`
		Reason string `json:"reason"`
	}
	if err := decode("twin result", payload, &w); err != nil {
		return Result{}, err
	}
	return Result{EventID: w.EventID, Time: msTime(w.Timestamp), Code: w.Code, Reason: w.Reason, Twin: properties(w.Twin)}, nil
}

func properties(w map[string]*twinWire) map[string]Property {
	if w == nil {
		return nil
	}
	m := make(map[string]Property, len(w))
	for name, t := range w {
		if t != nil { // null: the property was removed
			m[name] = t.property()
		}
	}
	return m
}

func (t *twinWire) property() Property {
	p := Property{Actual: t.Actual.datum(), Expected: t.Expected.datum()}
	if t.Metadata != nil {
		p.Type = t.Metadata.Type
	}
	return p
}

func (v *valueWire) datum() Datum {
	if v == nil || v.Value == nil {
		return Datum{}
	}
	d := Datum{Value: *v.Value, Known: true}
	if v.Metadata != nil {
		d.Time = msTime(v.Metadata.Timestamp)
	}
	return d
}

// Document is one accepted report: each property before and after.
type Document struct {
	EventID string
	Time    time.Time
	Last    map[string]Property // what was known before; absent: nothing
	Current map[string]Property // absent: the property was removed
}

// DecodeDocument reads a message of TwinDocumentTopic.
func DecodeDocument(payload []byte) (Document, error) {
	var w struct {
		EventID   string `json:"event_id"`
		Timestamp int64  `json:"timestamp"`
		Twin      map[string]*struct {
			Last    *twinWire `json:"last"`
			Current *twinWire `json:"current"`
		} `json:"twin"`
	}
	if err := decode("twin document", payload, &w); err != nil {
		return Document{}, err
	}
	d := Document{EventID: w.EventID, Time: msTime(w.Timestamp), Last: map[string]Property{}, Current: map[string]Property{}}
	for name, t := range w.Twin {
		if t != nil && t.Last != nil {
			d.Last[name] = t.Last.property()
		}
		if t != nil && t.Current != nil {
			d.Current[name] = t.Current.property()
		}
	}
	return d, nil
}

// DecodeStateResult reads a message of StateUpdateResultTopic: the state that
// EdgeCore now has of the device, as it was told.
func DecodeStateResult(payload []byte) (twin.DeviceState, error) {
	var w struct {
		Device struct {
			State twin.DeviceState `json:"state"`
		} `json:"device"`
	}
	err := decode("state result", payload, &w)
	return w.Device.State, err
}

// Membership is what EdgeCore says of the devices of its node.
type Membership struct {
	Devices        []twin.DeviceID // the answer to MembershipGetTopic
	Added, Removed []twin.DeviceID // MembershipUpdatedTopic
	Foreign        int             // entries whose id is none of a Device
}

// DecodeMembership reads a message of MembershipGetResultTopic or
// MembershipUpdatedTopic.
func DecodeMembership(payload []byte) (Membership, error) {
	type member struct {
		ID string `json:"id"`
	}
	var w struct {
		Devices []member `json:"devices"`
		Added   []member `json:"added_devices"`
		Removed []member `json:"removed_devices"`
	}
	if err := decode("membership", payload, &w); err != nil {
		return Membership{}, err
	}
	var m Membership
	ids := func(members []member) (ids []twin.DeviceID) {
		for _, d := range members {
			id, err := twin.ParseDeviceID(d.ID)
			if err != nil {
				m.Foreign++
				continue
			}
			ids = append(ids, id)
		}
		return ids
	}
	m.Devices, m.Added, m.Removed = ids(w.Devices), ids(w.Added), ids(w.Removed)
	return m, nil
}

func decode(what string, payload []byte, to any) error {
	if len(payload) > MaxMessage {
		return fmt.Errorf("%s: %d bytes, at most %d are read", what, len(payload), MaxMessage)
	}
	if err := json.Unmarshal(payload, to); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// msTime reads EdgeCore's milliseconds since 1970; none is the zero time.
func msTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
