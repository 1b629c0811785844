package mapper

import (
	"hash/fnv"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

const (
	// minCycle is the shortest collect cycle: below it a poll costs more than it tells.
	minCycle = 10 * time.Millisecond
	// maxPhase bounds how long the first poll of a device is put off to spread the load.
	maxPhase = 10 * time.Second
	// maxGrain bounds the grain on which first polls lie, so that polls of many devices
	// share the wake-ups of the process: those cost more than the polls themselves.
	maxGrain = 100 * time.Millisecond
	// grains is how many of them the shortest cycle of a device has at least.
	grains = 10
	// minStateCycle is the shortest cycle at which a state is repeated: twin
	// messages are few (30 a second for a whole node).
	minStateCycle = time.Second
	// refusedCycle is how often a device that cannot be served at all says so.
	refusedCycle = time.Minute
)

// plan says when which property is due. All cycles of a device begin at the
// same instant, so that properties whose cycles are multiples of each other are
// read together.
type plan struct {
	base  time.Time
	items []planned
	ready []*twin.Property // due's
}

type planned struct {
	property *twin.Property
	cycle    time.Duration
	due      time.Time
}

// newPlan starts at the next grain since origin, put off by a number of grains
// that follows from the device's name alone. No cycle is shorter than atLeast.
func newPlan(d *twin.Device, origin, now time.Time, atLeast time.Duration) *plan {
	p := &plan{items: make([]planned, len(d.Properties))}
	shortest := maxPhase
	for i := range d.Properties {
		cycle := max(d.Properties[i].CollectCycle, minCycle)
		shortest = min(shortest, cycle)
		p.items[i] = planned{property: &d.Properties[i], cycle: max(cycle, atLeast)}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(d.ID.String()))
	grain := min(shortest/grains, maxGrain)
	next := (now.Sub(origin) + grain - 1) / grain
	slot := time.Duration(h.Sum64() % uint64(shortest/grain))
	p.base = origin.Add((next + slot) * grain)
	for i := range p.items {
		p.items[i].due = p.base
	}
	return p
}

// next returns when the next property is due; zero where there is none.
func (p *plan) next() (at time.Time) {
	for i := range p.items {
		at = earlier(at, p.items[i].due)
	}
	return at
}

// due returns the properties that are due at now, valid until the next call.
func (p *plan) due(now time.Time) []*twin.Property {
	p.ready = p.ready[:0]
	for i := range p.items {
		if !p.items[i].due.After(now) {
			p.ready = append(p.ready, p.items[i].property)
		}
	}
	return p.ready
}

// advance puts what was due at started to its first cycle not before now,
// and returns how many polls were missed: the most cycles any property skipped.
func (p *plan) advance(started, now time.Time) (missed uint64) {
	for i := range p.items {
		it := &p.items[i]
		if it.due.After(started) {
			continue
		}
		cycles := max(1, (now.Sub(it.due)+it.cycle-1)/it.cycle)
		if !it.due.Add(cycles * it.cycle).After(started) {
			cycles++ // this poll was its poll too
		}
		missed = max(missed, uint64(cycles-1))
		it.due = it.due.Add(cycles * it.cycle)
	}
	return missed
}
