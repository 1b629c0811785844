package mappertest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

var (
	_ mapper.Driver = (*Driver)(nil)
	_ mapper.Bus    = (*Bus)(nil)
	_ mapper.Source = (*Source)(nil)
	_ mapper.Twins  = (*Twins)(nil)
	_ mapper.Store  = (*Store)(nil)
)

// Source is a mapper.Source that is told what to say.
type Source struct {
	mu       sync.Mutex
	known    bool
	devices  []twin.Device
	problems []twin.Problem
	err      error
	changed  chan struct{}
}

// NewSource returns a Source that knows devices.
func NewSource(devices ...twin.Device) *Source {
	s := &Source{changed: make(chan struct{})}
	if len(devices) > 0 {
		s.Set(devices)
	}
	return s
}

// Set makes devices the whole set.
func (s *Source) Set(devices []twin.Device, problems ...twin.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.devices, s.problems = true, devices, problems
	close(s.changed)
	s.changed = make(chan struct{})
}

// Fail ends Run with err.
func (s *Source) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	close(s.changed)
	s.changed = make(chan struct{})
}

// Run implements mapper.Source.
func (s *Source) Run(ctx context.Context, set func([]twin.Device, []twin.Problem)) error {
	for {
		s.mu.Lock()
		known, devices, problems, err, changed := s.known, slices.Clone(s.devices), slices.Clone(s.problems), s.err, s.changed
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if known {
			set(devices, problems)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Twins is a mapper.Twins that remembers.
type Twins struct {
	mu        sync.Mutex
	reports   map[twin.DeviceID][]twin.Reading
	states    map[twin.DeviceID][]twin.DeviceState
	forgotten []twin.DeviceID
}

// Report implements mapper.Twins.
func (w *Twins) Report(d *twin.Device, readings []twin.Reading) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reports == nil {
		w.reports = map[twin.DeviceID][]twin.Reading{}
	}
	w.reports[d.ID] = append(w.reports[d.ID], readings...)
}

// State implements mapper.Twins.
func (w *Twins) State(d *twin.Device, state twin.DeviceState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states == nil {
		w.states = map[twin.DeviceID][]twin.DeviceState{}
	}
	w.states[d.ID] = append(w.states[d.ID], state)
}

// Forget implements mapper.Twins.
func (w *Twins) Forget(id twin.DeviceID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgotten = append(w.forgotten, id)
}

// Reports returns every reading reported for a device, in order.
func (w *Twins) Reports(id twin.DeviceID) []twin.Reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reports[id])
}

// States returns every state reported for a device, in order.
func (w *Twins) States(id twin.DeviceID) []twin.DeviceState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.states[id])
}

// Forgotten returns the devices that were forgotten, in order.
func (w *Twins) Forgotten() []twin.DeviceID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.forgotten)
}

// Store is a mapper.Store in memory. The zero Store is empty. Give one Store to
// two mappers, one after the other, to test a restart.
type Store struct {
	mu      sync.Mutex
	epoch   uint64
	records map[twin.DeviceID]map[string]string
	err     error
	saves   int
}

// Fail makes every call fail with err; nil ends that.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// NextEpoch implements mapper.Store.
func (s *Store) NextEpoch() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.epoch++
	return s.epoch, nil
}

// LastDesired implements mapper.Store.
func (s *Store) LastDesired(id twin.DeviceID) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.records[id]), s.err
}

// SetLastDesired implements mapper.Store.
func (s *Store) SetLastDesired(id twin.DeviceID, desired map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.records == nil {
		s.records = map[twin.DeviceID]map[string]string{}
	}
	s.records[id] = maps.Clone(desired)
	s.saves++
	return nil
}

// Saves returns how often a record was stored.
func (s *Store) Saves() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}
