package mapper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// counts are the counters of a run.
type counts struct {
	polls, pollErrors, late, good, uncertain, bad atomic.Uint64
	panics, driverFaults, malformed, storeErrors  atomic.Uint64
}

// Stats are the numbers of a Mapper since its start, for metrics.
type Stats struct {
	Snapshots uint64                   // whole sets taken from the Source; zero: devices are not known yet
	Devices   map[twin.DeviceState]int // by state; "" for those that were not polled yet
	Problems  int                      // mistakes in declarations now

	Polls        uint64 // samples taken on schedule
	PollErrors   uint64 // reads that got no answer at all
	LatePolls    uint64 // polls left out since the one before took too long
	DriverFaults uint64 // breaches of the driver's contract
	Panics       uint64 // of the driver

	Good, Uncertain, Bad uint64 // readings by quality

	Published                     uint64 // samples that the broker took, with those sent again
	Resent                        uint64 // samples sent again
	Dropped                       uint64 // samples forced out before anyone confirmed them
	Unconfirmed, UnconfirmedBytes int    // samples that wait

	Writes          map[twin.WriteState]uint64 // final answers to commands and desired values; Pending: those that wait now
	CommandsRefused uint64                     // by a device's declaration
	Malformed       uint64                     // messages that could not be read
	ResultsDropped  uint64                     // answers forced out while the broker was away
	StoreErrors     uint64
}

// DeviceStatus is one device, for an operator.
type DeviceStatus struct {
	ID          twin.DeviceID    `json:"id"`
	Model       string           `json:"model,omitempty"`
	State       twin.DeviceState `json:"state,omitempty"` // empty: not polled yet
	LastPoll    time.Time        `json:"lastPoll,omitzero"`
	Error       string           `json:"error,omitempty"` // of the last poll
	Epoch       uint64           `json:"epoch"`
	Seq         uint64           `json:"seq"`
	Unconfirmed int              `json:"unconfirmed"`
	Dropped     uint64           `json:"dropped"`
	Readings    []ReadingStatus  `json:"readings,omitempty"`
	Writes      []WriteStatus    `json:"writes,omitempty"`
	Problems    []twin.Problem   `json:"problems,omitempty"`
}

// ReadingStatus is the last reading of a property.
type ReadingStatus struct {
	Property string       `json:"property"`
	Value    twin.Value   `json:"value"`
	Quality  twin.Quality `json:"quality"`
	Time     time.Time    `json:"time,omitzero"` // by the device, where it says it
}

// WriteStatus is what one party wants a property to be. Of those on one
// property, one Holds.
type WriteStatus struct {
	Property string          `json:"property"`
	Source   string          `json:"source"`   // "cloud" for the desired value
	Priority int             `json:"priority"` // 17 for the desired value
	Value    twin.Value      `json:"value"`
	Holds    bool            `json:"holds"`
	State    twin.WriteState `json:"state"`
	Reason   string          `json:"reason,omitempty"`
	Since    time.Time       `json:"since"`
	Expires  time.Time       `json:"expires,omitzero"`
}

// Stats returns the numbers of the current or last run.
func (m *Mapper) Stats() Stats {
	r := m.now.Load()
	out := Stats{Devices: map[twin.DeviceState]int{}, Writes: map[twin.WriteState]uint64{}}
	if r == nil {
		return out
	}
	c := &r.counts
	out.Polls, out.PollErrors, out.LatePolls = c.polls.Load(), c.pollErrors.Load(), c.late.Load()
	out.Good, out.Uncertain, out.Bad = c.good.Load(), c.uncertain.Load(), c.bad.Load()
	out.Panics, out.DriverFaults = c.panics.Load(), c.driverFaults.Load()
	out.Malformed, out.StoreErrors = c.malformed.Load(), c.storeErrors.Load()
	r.backlog.stats(&out)
	r.results.mu.Lock()
	out.ResultsDropped = r.results.dropped
	r.results.mu.Unlock()
	for _, d := range r.all() {
		d.stats(&out)
	}
	r.mu.RLock()
	out.Snapshots = r.snapshots
	for state, n := range r.past.states {
		out.Writes[state] += n
	}
	out.CommandsRefused += r.past.refused
	r.mu.RUnlock()
	out.Problems = len(m.Problems())
	return out
}

func (b *backlog) stats(out *Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Published, out.Resent, out.Dropped = b.published, b.resent, b.dropped
	out.Unconfirmed, out.UnconfirmedBytes = b.samples, b.bytes
}

func (d *device) stats(out *Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Devices[d.state]++
	out.CommandsRefused += d.board.refused
	for state, n := range d.board.states {
		out.Writes[state] += n
	}
	out.Writes[twin.Pending] += d.board.waiting()
}

// Devices returns every device in service, by id.
func (m *Mapper) Devices() []DeviceStatus {
	r := m.now.Load()
	if r == nil {
		return nil
	}
	all := r.all()
	out := make([]DeviceStatus, len(all))
	for i, d := range all {
		out[i] = d.status()
	}
	slices.SortFunc(out, func(a, b DeviceStatus) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	return out
}

func (d *device) status() DeviceStatus {
	s := d.stream.status()
	spec := d.spec.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	out := DeviceStatus{
		ID: d.id, Model: spec.Model, State: d.state, LastPoll: d.polled, Error: d.failure,
		Epoch: s.pos.Epoch, Seq: s.pos.Seq, Unconfirmed: s.waiting, Dropped: s.dropped,
		Writes: d.board.writes(spec), Problems: append(slices.Clone(d.problems), d.board.problems()...),
	}
	for i := range spec.Properties {
		if r, ok := d.last[spec.Properties[i].Name]; ok {
			if r.Quality == "" {
				r.Quality = twin.Good
			}
			out.Readings = append(out.Readings, ReadingStatus(r))
		}
	}
	return out
}

// Problems returns the mistakes in declarations that stand now: those the
// Source found, those the driver found, and desired values that are refused.
func (m *Mapper) Problems() []twin.Problem {
	r := m.now.Load()
	if r == nil {
		return nil
	}
	return r.problems()
}

func (r *run) problems() []twin.Problem {
	r.mu.RLock()
	out := slices.Clone(r.declared)
	r.mu.RUnlock()
	for _, d := range r.all() {
		d.mu.Lock()
		out = append(out, d.problems...)
		out = append(out, d.board.problems()...)
		d.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b twin.Problem) int { return cmp.Compare(a.Error(), b.Error()) })
	return slices.Compact(out)
}

// tell logs each problem that was not logged before.
func (r *run) tell() {
	for _, p := range r.problems() {
		if r.once.first(p.Error()) {
			r.cfg.Log.Warn("declaration has a mistake", "object", p.Object, "field", p.Field, "problem", p.What, "remedy", p.Remedy)
		}
	}
}

// problems returns the desired values that are refused by the declaration.
func (b *board) problems() []twin.Problem {
	var out []twin.Problem
	for _, name := range slices.Sorted(maps.Keys(b.slots)) {
		s := b.slots[name]
		w := s.find((*wish).cloud)
		if w == nil || w.state != twin.Rejected {
			continue
		}
		remedy := fmt.Sprintf("write a value of type %s that the property allows", s.property.Type)
		if !s.property.Writable {
			remedy = "remove the desired value, or declare the property ReadWrite in the DeviceModel if the device can be written"
		}
		out = append(out, twin.Problem{
			Object: objectOf(b.device), Field: fmt.Sprintf("spec.properties[%s].desired.value", name),
			What: fmt.Sprintf("%.80q is refused: %s", w.text, w.reason), Remedy: remedy,
		})
	}
	return out
}

// waiting counts the wishes that hold and are not applied.
func (b *board) waiting() (n uint64) {
	for _, s := range b.slots {
		if w := s.holder(); w != nil && !w.closed && w.order != s.have {
			n++
		}
	}
	return n
}

// writes returns what is wanted, in the declared order of the properties.
func (b *board) writes(spec *twin.Device) []WriteStatus {
	var out []WriteStatus
	for i := range spec.Properties {
		s := b.slots[spec.Properties[i].Name]
		if s == nil {
			continue
		}
		for _, w := range s.wishes {
			out = append(out, WriteStatus{
				Property: s.property.Name, Source: w.source, Priority: w.priority, Value: w.value,
				Holds: w.order == s.holds, State: w.state, Reason: w.reason, Since: stamp(w.since), Expires: w.expires,
			})
		}
	}
	return out
}

// once remembers what was logged.
type once struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// maxOnce bounds what a once remembers; past it nothing new is logged.
const maxOnce = 10_000

// first reports whether text comes for the first time.
func (o *once) first(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.seen[text]; ok || len(o.seen) >= maxOnce {
		return false
	}
	if o.seen == nil {
		o.seen = map[string]struct{}{}
	}
	o.seen[text] = struct{}{}
	return true
}
