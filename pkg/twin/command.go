package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Command asks a mapper, over the local bus, to set one property. It is a
// claim on the property: it holds until its TTL is over or the same Source
// releases it with a command without a value. Of several claims the one with the
// lowest Priority number holds (as BACnet's priority array); the cloud's
// desired value holds when there is none.
type Command struct {
	ID       string        // names the command in its Result; 1 to 128 bytes
	Property string        //
	Value    Value         // zero (null): release the claim
	Source   string        // who claims: "reactor/<rule>"; 1 to 256 bytes
	Priority int           // 1 (highest) to 16; 0 on the wire means DefaultPriority
	TTL      time.Duration // how long the claim holds; 0: until released or the mapper restarts
}

// Bounds and defaults of a command.
const (
	DefaultPriority = 8
	LowestPriority  = 16
	MaxCommandTTL   = 7 * 24 * time.Hour
	maxCommandID    = 128
	maxCommandSrc   = 256
	maxCommandSize  = MaxStringValue + 4096
)

type commandWire struct {
	ID       string  `json:"id"`
	Property string  `json:"property"`
	Value    Value   `json:"value"`
	Source   string  `json:"source"`
	Priority int     `json:"priority,omitempty"`
	TTL      float64 `json:"ttl,omitempty"` // seconds
}

// MarshalJSON writes {"id","property","value","source","priority","ttl"}, ttl in seconds.
func (c Command) MarshalJSON() ([]byte, error) {
	return json.Marshal(commandWire{c.ID, c.Property, c.Value, c.Source, c.Priority, c.TTL.Seconds()})
}

// UnmarshalJSON reads a command and checks its bounds.
func (c *Command) UnmarshalJSON(b []byte) error {
	if len(b) > maxCommandSize {
		return fmt.Errorf("command: %d bytes, at most %d are allowed", len(b), maxCommandSize)
	}
	var w commandWire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("command: %w", err)
	}
	if w.Priority == 0 {
		w.Priority = DefaultPriority
	}
	switch {
	case w.ID == "" || len(w.ID) > maxCommandID:
		return fmt.Errorf("command: id has %d bytes, want 1 to %d", len(w.ID), maxCommandID)
	case w.Property == "" || len(w.Property) > MaxPropertyLength:
		return fmt.Errorf("command: property has %d bytes, want 1 to %d", len(w.Property), MaxPropertyLength)
	case w.Source == "" || len(w.Source) > maxCommandSrc:
		return fmt.Errorf("command: source has %d bytes, want 1 to %d", len(w.Source), maxCommandSrc)
	case w.Priority < 1 || w.Priority > LowestPriority:
		return fmt.Errorf("command: priority %d, want 1 to %d", w.Priority, LowestPriority)
	case w.TTL < 0 || w.TTL > MaxCommandTTL.Seconds():
		return fmt.Errorf("command: ttl %g s, want 0 to %g", w.TTL, MaxCommandTTL.Seconds())
	}
	*c = Command{
		ID: w.ID, Property: w.Property, Value: w.Value, Source: w.Source, Priority: w.Priority,
		TTL: time.Duration(math.Round(w.TTL * float64(time.Second))),
	}
	if w.TTL > 0 {
		c.TTL = max(c.TTL, 1) // zero would mean: for ever
	}
	return nil
}

// WriteState is what has become of a write.
type WriteState string

// The states of a write. All but Pending are final.
const (
	Pending    WriteState = "pending"    // accepted, not yet seen on the device
	Applied    WriteState = "applied"    // written and read back
	Rejected   WriteState = "rejected"   // the device or the declaration refuses it
	TimedOut   WriteState = "timed-out"  // the device did not answer, or did not show the value
	Superseded WriteState = "superseded" // another claim or a newer value took its place
	Released   WriteState = "released"   // the claim was given back
)

// Result says what became of a command, on ResultTopic.
type Result struct {
	ID       string     `json:"id"`
	Property string     `json:"property"`
	Source   string     `json:"source"`
	State    WriteState `json:"state"`
	Reason   string     `json:"reason,omitempty"` // for people; never empty for Rejected and TimedOut
	Value    Value      `json:"value"`            // what the device shows now; null if unknown
	Time     time.Time  `json:"time"`
}

// Ack tells mappers what one consumer has on disk: of each device everything
// up to and with (Epoch, Seq).
type Ack struct {
	Acks map[DeviceID]Position `json:"acks"`
}

// Position is a place in a device's sequence of samples.
type Position struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || (p.Epoch == q.Epoch && p.Seq < q.Seq)
}

// LinkState says whether a node's way to the cloud works, measured end to end.
type LinkState struct {
	Node  string    `json:"node"`
	Up    bool      `json:"up"`
	Since time.Time `json:"since"`
}

// DeviceState is what a mapper says of a whole device. KubeEdge accepts these
// words (edge/pkg/devicetwin/dtmanager/device.go).
type DeviceState string

// The states a mapper reports.
const (
	Online    DeviceState = "online"    // answered its last poll
	Offline   DeviceState = "offline"   // did not answer
	Unhealthy DeviceState = "unhealthy" // answers, but nothing of it is usable, or it is declared wrongly
)

// ErrNoDevice is returned where a device is asked for that is not declared.
var ErrNoDevice = errors.New("no such device")
