// Package mapper is the framework that turns a protocol driver into a KubeEdge
// mapper. A driver says how to read and write one protocol; the framework does
// all else: which devices there are, when each property is due, telemetry on the
// local bus, twins, desired values, commands, states, restarts.
package mapper

import (
	"context"
	"errors"

	"github.com/twinline/twinline/pkg/twin"
)

// Driver speaks one protocol. One Driver serves all devices of a process.
type Driver interface {
	// Protocol is the spec.protocol.protocolName of the devices it serves, in
	// lower case; devices are matched without regard to case.
	Protocol() string

	// Open takes one device into service. It checks the whole declaration and
	// does no I/O: connections are made by the first Read or Write. Each mistake
	// is one Problem. A property with a mistake is refused alone: Read gives it
	// quality bad:config and the others go on. The Conn is nil only when nothing of
	// the device can be served. Devices that share a line share it inside the driver.
	// Open and Close of a Conn may be called at any time, also concurrently
	// for different devices; a changed device is closed and opened anew.
	Open(device twin.Device) (Conn, []twin.Problem)
}

// Conn is one device in service.
type Conn interface {
	// Read reads the named properties once, with as few requests as it can, and
	// returns one Reading for each of them in the same order. What fails for one
	// property is its quality; the others keep their values. An error means that the
	// device did not answer at all: the readings are ignored, and the framework gives
	// every property bad:<Reason(err)> and the device the state offline.
	// Read returns soon after ctx ends, and within the device's own timeouts and
	// retries in any case. The framework does not call Read concurrently for one Conn; it
	// may call Write during a Read.
	//
	// A value is never older than the call, but for what a device says by itself: then it is the
	// last that the device said, and its Reading has a Time. What was returned once is not
	// returned again: until the device says more, the Reading is NothingNew, and
	// bad:stale after a silence that the declaration states.
	Read(ctx context.Context, properties []string) ([]twin.Reading, error)

	// Write writes one property, before polls that wait for the same line. value
	// is of the property's declared type and within its range. It returns the
	// value that a Read shows when the write has taken effect: the nearest
	// the device can hold. It does not read back; the framework does. An error
	// for which Rejected is true is final; any other may be tried again.
	Write(ctx context.Context, property string, value twin.Value) (twin.Value, error)

	// Close takes the device out of service and waits for what it started. The
	// framework calls it once, after every Read and Write has returned.
	Close() error
}

// NothingNew is in place of a quality where a device that speaks by itself has
// said nothing of a property since the last Read. The framework leaves the
// reading out: it is in no sample and in no twin, and changes no state.
const NothingNew twin.Quality = "nothing-new"

// Fault is an error of a driver with the word for it: the <why> of a quality.
type Fault struct {
	Why    string // "timeout", "crc", "connection", "exception-2"
	Refuse bool   // the device or the declaration refuses it: trying again is useless
	Err    error
}

// Error implements error.
func (f *Fault) Error() string {
	if f.Err == nil {
		return f.Why
	}
	return f.Err.Error()
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Reason returns the Why of the Fault in err, "timeout" for an ended deadline, else "error".
func Reason(err error) string {
	var f *Fault
	if errors.As(err, &f) && f.Why != "" {
		return f.Why
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "error"
}

// Rejected reports whether err is final: the device or the declaration refuses the write.
func Rejected(err error) bool {
	var f *Fault
	return errors.As(err, &f) && f.Refuse
}
