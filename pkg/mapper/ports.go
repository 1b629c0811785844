package mapper

import (
	"context"
	"math/rand/v2"

	"github.com/twinline/twinline/pkg/twin"
)

// Source says which devices this node has.
type Source interface {
	// Run calls set with the whole set of this node's devices of the mapper's
	// protocol whenever it may have changed, first as soon as it is known, and
	// until ctx ends; then it returns nil. Calls of set do not overlap.
	// Problems are the mistakes in declarations found on the way; a device
	// that cannot be served at all is only in problems. What could not be read
	// is retried by Run itself. A change of desired values only must give the same
	// Device but for Property.Desired.
	Run(ctx context.Context, set func(devices []twin.Device, problems []twin.Problem)) error
}

// Bus is the node's MQTT broker.
type Bus interface {
	// Publish sends with QoS 1 and returns when the broker has it. While the
	// broker is away it waits, until ctx ends.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Subscribe calls handle for every message that matches filter, one at a
	// time per filter, from now on and after every reconnect. handle must not block for long
	// and may keep payload. It returns an error only for a filter that cannot be.
	Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error)
}

// Twins carries twin state towards the cloud. Its calls never block and never
// fail: the latest state wins, and it is delivered when it can be.
type Twins interface {
	// Report takes the current readings of a device. Only properties with
	// ReportToCloud, at their ReportCycle; pacing is the implementation's business.
	Report(device *twin.Device, readings []twin.Reading)
	// State takes the state of a device.
	State(device *twin.Device, state twin.DeviceState)
	// Forget drops what waits for a device that is gone.
	Forget(id twin.DeviceID)
}

// maxFirstEpoch leaves room above it: an epoch stays exact as a JavaScript number (2^53).
const maxFirstEpoch = 1 << 40

// FirstEpoch returns the epoch with which a new counter begins. It is drawn at
// random: a device may be served from another node, or from this one after its disk was
// replaced, and with the same epochs as before its samples would be taken for
// those that are stored already.
func FirstEpoch() uint64 {
	return 1 + rand.Uint64N(maxFirstEpoch) //nolint:gosec // it is no secret
}

// Store keeps what must survive a restart of the mapper. Its calls return when
// the change is on disk.
type Store interface {
	// NextEpoch returns a number that is greater than at every earlier call. A
	// Store that knows of none begins with FirstEpoch.
	NextEpoch() (uint64, error)
	// LastDesired returns the desired texts that were last dealt with, by property.
	LastDesired(id twin.DeviceID) (map[string]string, error)
	// SetLastDesired records them.
	SetLastDesired(id twin.DeviceID, desired map[string]string) error
}
