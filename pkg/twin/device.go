package twin

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Type is a property's declared type, spelled as in DeviceModel.spec.properties[].type.
type Type string

// The types of devices.kubeedge.io/v1beta1 that carry a value. STREAM is refused
// when a device is declared.
const (
	TypeInt     Type = "INT"     // Int or Uint
	TypeFloat   Type = "FLOAT"   // Float, single precision on the wire
	TypeDouble  Type = "DOUBLE"  // Float
	TypeBoolean Type = "BOOLEAN" // Bool
	TypeString  Type = "STRING"  // String
	TypeBytes   Type = "BYTES"   // String, standard base64
)

// Device is one declared device, ready for a driver: the Device object merged
// with its DeviceModel. It is immutable once handed out.
type Device struct {
	ID       DeviceID
	Node     string         // Device.spec.nodeName
	Model    string         // Device.spec.deviceModelRef.name
	Protocol string         // Device.spec.protocol.protocolName
	Config   map[string]any // configData: the model's, overridden by the device's; JSON values

	Properties []Property // in the model's order, names are unique

	// StateReportCycle is how often the device's state is reported again though
	// it did not change; zero leaves it to the reporter.
	StateReportCycle time.Duration
}

// Property is one declared property of a device.
type Property struct {
	Name     string
	Type     Type
	Writable bool   // accessMode ReadWrite
	Unit     string // free text, for people
	Minimum  Value  // zero: no bound
	Maximum  Value  // zero: no bound

	CollectCycle  time.Duration  // how often it is read; never zero
	ReportCycle   time.Duration  // how often the twin is reported at most; never zero
	ReportToCloud bool           // whether the twin is reported at all
	Deadband      float64        // the visitor's deadband, of a number: the twin is news when it differs by more; 0: every change
	Visitor       map[string]any // the visitor's configData: the model's, overridden by the device's

	// Desired is Device.spec.properties[].desired.value, verbatim; nil if the
	// object has none. It is text because KubeEdge makes it so: Parse gives its value.
	Desired *string
}

// Property returns the property of that name.
func (d *Device) Property(name string) (*Property, bool) {
	for i := range d.Properties {
		if d.Properties[i].Name == name {
			return &d.Properties[i], true
		}
	}
	return nil, false
}

// Parse reads text as a value of the property's type and checks it against
// Minimum and Maximum. The error says what was wrong and what would be right.
func (p *Property) Parse(text string) (Value, error) {
	v, err := ParseValue(p.Type, text)
	if err != nil {
		return Value{}, err
	}
	return v, p.CheckRange(v)
}

// Coerce turns a value of any kind into one of the property's type where that
// loses nothing, and checks its range. The zero Value has no type and is refused.
func (p *Property) Coerce(v Value) (Value, error) {
	if v.IsZero() {
		return Value{}, errors.New("there is no value")
	}
	w, err := p.Parse(v.Text()) // a Float's Text has no fraction where it is whole
	if err != nil {
		return Value{}, err
	}
	if c, ok := v.Compare(w); ok && c != 0 {
		return Value{}, fmt.Errorf("%s does not fit type %s: it would become %s", v, p.Type, w)
	}
	return w, nil
}

// CheckRange reports a number outside Minimum..Maximum.
func (p *Property) CheckRange(v Value) error {
	if c, ok := v.Compare(p.Minimum); ok && c < 0 {
		return fmt.Errorf("%s is below the minimum %s", v, p.Minimum)
	}
	if c, ok := v.Compare(p.Maximum); ok && c > 0 {
		return fmt.Errorf("%s is above the maximum %s", v, p.Maximum)
	}
	return nil
}

// ParseValue reads text as a value of type t.
func ParseValue(t Type, text string) (Value, error) {
	switch t {
	case TypeInt:
		text = strings.TrimSpace(text)
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return IntValue(i), nil
		}
		if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			return UintValue(u), nil
		}
		return Value{}, fmt.Errorf("%.80q is not an integer of 64 bits", text)
	case TypeFloat, TypeDouble:
		v, err := parseNumber(strings.TrimSpace(text))
		if err != nil {
			return Value{}, fmt.Errorf("%.80q is not a finite number", text)
		}
		f, _ := v.AsFloat()
		return FloatValue(f), nil
	case TypeBoolean:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "true", "1", "on":
			return BoolValue(true), nil
		case "false", "0", "off":
			return BoolValue(false), nil
		}
		return Value{}, fmt.Errorf("%.80q is not a boolean: write true or false", text)
	case TypeString, TypeBytes:
		v := StringValue(text) // may be longer than text
		if n := max(len(text), len(v.text)); n > MaxStringValue {
			return Value{}, fmt.Errorf("a string of %d bytes, at most %d are allowed", n, MaxStringValue)
		}
		if t == TypeBytes {
			if _, err := base64.StdEncoding.DecodeString(text); err != nil {
				return Value{}, fmt.Errorf("%.80q is not base64 (RFC 4648, with padding)", text)
			}
		}
		return v, nil
	}
	return Value{}, fmt.Errorf("type %q carries no value", t)
}
