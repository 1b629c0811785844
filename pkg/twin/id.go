package twin

import (
	"fmt"
	"strings"
)

// DeviceID names a device as KubeEdge does: the namespace and name of its Device object.
type DeviceID struct {
	Namespace string
	Name      string
}

// String returns "namespace/name", the form used in topics, Kafka keys and the database.
func (id DeviceID) String() string { return id.Namespace + "/" + id.Name }

// IsZero reports whether the id names nothing.
func (id DeviceID) IsZero() bool { return id == DeviceID{} }

// MarshalText makes the id a string in JSON, also as a map key.
func (id DeviceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *DeviceID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseDeviceID(string(b))
	return err
}

// Bounds of the two halves of a DeviceID, from Kubernetes: a namespace is a DNS
// label, an object's name a DNS subdomain (apimachinery, util/validation).
const (
	MaxNamespaceLength = 63
	MaxNameLength      = 253
)

// ParseDeviceID reads "namespace/name". Both halves must be names that
// Kubernetes allows, so an id is always safe in a topic and in a URL path.
func ParseDeviceID(s string) (DeviceID, error) {
	ns, name, ok := strings.Cut(s, "/")
	if !ok {
		return DeviceID{}, fmt.Errorf("device id %.80q: want namespace/name", s)
	}
	if len(ns) > MaxNamespaceLength || !isDNSName(ns, false) {
		return DeviceID{}, fmt.Errorf("device id %.80q: %.80q is not a Kubernetes namespace", s, ns)
	}
	if len(name) > MaxNameLength || !isDNSName(name, true) {
		return DeviceID{}, fmt.Errorf("device id %.80q: %.80q is not a Kubernetes object name", s, name)
	}
	return DeviceID{Namespace: ns, Name: name}, nil
}

func isDNSName(s string, dots bool) bool {
	if s == "" {
		return false
	}
	edge := true // the next character starts a label
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			edge = false
		case c == '-':
			if edge {
				return false
			}
			if i+1 == len(s) || s[i+1] == '.' {
				return false
			}
		case c == '.' && dots:
			if edge {
				return false
			}
			edge = true
		default:
			return false
		}
	}
	return !edge
}
