package uplink

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// acks gathers the positions to acknowledge on the bus. Its memory is bounded by the devices.
type acks struct {
	wake chan struct{}

	mu      sync.Mutex
	current map[twin.DeviceID]twin.Position
	due     map[twin.DeviceID]twin.Position // not published yet
}

func newAcks() *acks {
	return &acks{wake: make(chan struct{}, 1), current: map[twin.DeviceID]twin.Position{}, due: map[twin.DeviceID]twin.Position{}}
}

// set begins with the positions of a new run, all of which are to be published.
func (a *acks) set(positions map[twin.DeviceID]twin.Position) {
	a.mu.Lock()
	a.current, a.due = positions, maps.Clone(positions)
	a.mu.Unlock()
	signal(a.wake)
}

// say has the position of a device published soon, also if it is the same as before.
func (a *acks) say(id twin.DeviceID, p twin.Position) {
	a.mu.Lock()
	a.current[id], a.due[id] = p, p
	a.mu.Unlock()
	signal(a.wake)
}

// all has every position published again.
func (a *acks) all() {
	a.mu.Lock()
	maps.Copy(a.due, a.current)
	a.mu.Unlock()
	signal(a.wake)
}

// take returns up to maxAckDevices positions and forgets them; more says that there are others.
func (a *acks) take() (ack twin.Ack, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ack.Acks = make(map[twin.DeviceID]twin.Position, min(len(a.due), maxAckDevices))
	for id, p := range a.due {
		if len(ack.Acks) == maxAckDevices {
			return ack, true
		}
		ack.Acks[id] = p
		delete(a.due, id)
	}
	return ack, false
}

// publish publishes until ctx ends: what is new, gathered for ackEvery, and
// something every speakEvery, so that mappers know that there is an uplink.
func (a *acks) publish(ctx context.Context, bus Bus, node string) error {
	speak := time.NewTicker(speakEvery)
	defer speak.Stop()
	for {
		ack, more := a.take()
		payload, err := json.Marshal(ack)
		if err != nil {
			return err // cannot be: ids and numbers
		}
		if err := bus.Publish(ctx, twin.AckTopic(node), payload); err != nil && ctx.Err() != nil {
			return nil //nolint:nilerr // the end of the run
		}
		if !pause(ctx, ackEvery) {
			return nil
		}
		if more {
			continue
		}
		select {
		case <-a.wake:
		case <-speak.C:
		case <-ctx.Done():
			return nil
		}
	}
}
