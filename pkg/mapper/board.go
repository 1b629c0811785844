package mapper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a board.
const (
	// maxClaims bounds the claims on one property: four for each of 16 levels.
	maxClaims = 64
	// answerWithin bounds how long a command may stay pending while it holds its
	// property. Trying goes on after that; only the answer is given.
	answerWithin = 30 * time.Second
	// minRetry and maxRetry bound the pause before a failed write is tried again.
	minRetry = time.Second
	maxRetry = time.Minute
	// maxUnseen bounds how often a value is written that the device takes and does
	// not show: a register that resets itself must not be written for ever.
	maxUnseen = 3

	cloudPriority = twin.LowestPriority + 1
	cloudSource   = "cloud"
	cloudCommand  = "desired"
)

// wish is what one party wants a property to be: the cloud by its desired
// value, or a local source by its claim.
type wish struct {
	order    uint64 // of arrival on the board, from 1
	value    twin.Value
	text     string // the cloud's desired value, verbatim
	command  string
	source   string
	priority int
	since    time.Time
	expires  time.Time // zero: never
	answerBy time.Time
	state    twin.WriteState
	reason   string
	last     string     // why the last try failed
	shown    twin.Value // what the device shows for it, once applied
	answered bool
	closed   bool // is not written any more, though it holds
	done     bool // cloud only: is in the record of what was dealt with
}

func (w *wish) cloud() bool { return w.priority == cloudPriority }

// slot is one property on the board.
type slot struct {
	property *twin.Property // of the declaration, shared
	wishes   []*wish        // live, in order of arrival
	now      twin.Value     // the last reading; zero: none, or bad
	holds    uint64         // order of the wish that holds; zero: none
	have     uint64         // order of the wish the device has; zero: not known
	had      uint64         // have before the write under way
	tries    int
	unseen   int
	next     time.Time // not before
}

// holder returns the wish that holds: the highest priority, of those the newest.
func (s *slot) holder() *wish {
	var found *wish
	for _, w := range s.wishes {
		if found == nil || w.priority <= found.priority {
			found = w
		}
	}
	return found
}

// claims returns how many claims there are.
func (s *slot) claims() int {
	if s.find((*wish).cloud) != nil {
		return len(s.wishes) - 1
	}
	return len(s.wishes)
}

func (s *slot) find(match func(*wish) bool) *wish {
	if i := slices.IndexFunc(s.wishes, match); i >= 0 {
		return s.wishes[i]
	}
	return nil
}

func (s *slot) byOrder(order uint64) *wish {
	return s.find(func(w *wish) bool { return w.order == order })
}

func (s *slot) remove(w *wish) {
	s.wishes = slices.DeleteFunc(s.wishes, func(x *wish) bool { return x == w })
}

// board decides what is to be written to one device, and answers those who
// want it. It does no I/O, starts nothing and reads no clock; its owner calls it
// under a lock. See DESIGN.md for its states.
type board struct {
	device   twin.DeviceID
	slots    map[string]*slot
	arrivals uint64
	blind    bool              // nothing is known of what was dealt with before
	record   map[string]string // what the Store has
	window   window
	out      []twin.Result
	states   map[twin.WriteState]uint64 // final answers
	refused  uint64
}

// newBoard begins with the Store's record; known is false where there is none.
func newBoard(device twin.DeviceID, record map[string]string, known bool) *board {
	return &board{
		device: device, slots: map[string]*slot{}, blind: !known, record: maps.Clone(record),
		window: window{results: map[string]twin.Result{}}, states: map[twin.WriteState]uint64{},
	}
}

// declare takes the device as it is declared now.
func (b *board) declare(d *twin.Device, now time.Time) {
	for name, s := range b.slots {
		if _, ok := d.Property(name); ok {
			continue
		}
		for _, w := range s.wishes {
			if !w.answered {
				b.answer(s, w, twin.Rejected, "the property is not declared any more", now)
			}
		}
		delete(b.slots, name)
	}
	for i := range d.Properties {
		p := &d.Properties[i]
		s, ok := b.slots[p.Name]
		if !ok {
			s = &slot{}
			b.slots[p.Name] = s
		}
		changed := ok && !sameProperty(*s.property, *p)
		s.property = p
		if changed {
			b.redeclare(s, now)
		}
		b.desire(s, changed, !ok, now)
	}
	b.blind = false
}

// redeclare checks what is wished for against a changed declaration.
func (b *board) redeclare(s *slot, now time.Time) {
	for _, w := range slices.Clone(s.wishes) {
		value, err := s.property.Coerce(w.value)
		if !s.property.Writable {
			err = errReadOnly
		}
		if err == nil || w.value.IsZero() {
			w.value = value
			continue
		}
		if w.cloud() {
			w.closed, w.done = true, true
		}
		if !w.answered {
			b.answer(s, w, twin.Rejected, err.Error(), now)
		}
		if !w.cloud() {
			s.remove(w)
		}
	}
	b.settle(s, now)
}

// desire compares the declared desired value with the cloud's wish. fresh: the
// property is new on this board; changed: its declaration is not what it was.
func (b *board) desire(s *slot, changed, fresh bool, now time.Time) {
	text := s.property.Desired
	if old := s.find((*wish).cloud); old != nil {
		if text != nil && *text == old.text && (!changed || old.state != twin.Rejected) {
			return
		}
		reason := "a newer desired value took its place"
		if text == nil {
			reason = "the desired value was removed"
		}
		if !old.answered {
			b.answer(s, old, twin.Superseded, reason, now)
		}
		s.remove(old)
	}
	if text == nil {
		b.settle(s, now)
		return
	}
	w := b.wish(s, now)
	w.text, w.command, w.source, w.priority = *text, cloudCommand, cloudSource, cloudPriority
	value, err := s.property.Parse(*text)
	if !s.property.Writable {
		err = errReadOnly
	}
	w.value, w.closed = value, err != nil
	recorded, known := b.record[s.property.Name]
	switch {
	case fresh && (b.blind || (known && recorded == *text)):
		w.state, w.reason, w.answered, w.done = twin.Applied, "dealt with before this start", true, true
		if err != nil {
			w.state, w.reason = twin.Rejected, err.Error()
		} else {
			s.have = w.order
		}
	case err != nil:
		w.done = true
		b.answer(s, w, twin.Rejected, err.Error(), now)
	}
	b.settle(s, now)
}

// wish puts a new wish on a slot.
func (b *board) wish(s *slot, now time.Time) *wish {
	b.arrivals++
	w := &wish{order: b.arrivals, since: now, state: twin.Pending}
	s.wishes = append(s.wishes, w)
	return w
}

// settle follows a change of who holds the slot.
func (b *board) settle(s *slot, now time.Time) {
	w := s.holder()
	var order uint64
	if w != nil {
		order = w.order
	}
	if order == s.holds {
		return
	}
	if old := s.byOrder(s.holds); old != nil && !old.answered && w != nil {
		b.answer(s, old, twin.Superseded, "waits beneath "+w.describe(), now)
	}
	s.holds, s.tries, s.unseen, s.next = order, 0, 0, time.Time{}
	if w == nil {
		return
	}
	w.answerBy = now.Add(answerWithin)
	if w.cloud() && !w.closed && w.order != s.have {
		w.state, w.reason, w.answered = twin.Pending, "", false
	}
}

func (w *wish) describe() string {
	if w.cloud() {
		return "the cloud's desired value"
	}
	return fmt.Sprintf("the claim of %s at priority %d", w.source, w.priority)
}

// answer says what became of a wish.
func (b *board) answer(s *slot, w *wish, state twin.WriteState, reason string, now time.Time) {
	w.state, w.reason, w.answered = state, reason, state != twin.Pending
	r := twin.Result{ID: w.command, Property: s.property.Name, Source: w.source, State: state, Reason: reason, Value: s.now, Time: stamp(now)}
	b.emit(r, w.cloud())
}

func (b *board) emit(r twin.Result, cloud bool) {
	b.out = append(b.out, r)
	if !cloud {
		b.window.put(r)
	}
	if r.State != twin.Pending {
		b.states[r.State]++
	}
}

// take returns the results to publish.
func (b *board) take() []twin.Result {
	out := b.out
	b.out = nil
	return out
}

// observe notes what a read found.
func (b *board) observe(readings []twin.Reading) {
	for i := range readings {
		if s, ok := b.slots[readings[i].Property]; ok {
			s.now = readings[i].Value
		}
	}
}

// dealt returns the desired texts that are dealt with, and whether the Store's record differs.
func (b *board) dealt() (record map[string]string, changed bool) {
	record = map[string]string{}
	for name, s := range b.slots {
		if w := s.find((*wish).cloud); w != nil && w.done {
			record[name] = w.text
		}
	}
	return record, !maps.Equal(record, b.record)
}

// stamp is now as it is written on the wire.
func stamp(now time.Time) time.Time { return now.UTC().Truncate(time.Microsecond) }

// window remembers the answers to the last commands of a device, so that one
// that is delivered twice is executed once.
type window struct {
	keys    []string
	results map[string]twin.Result
}

// maxWindow bounds the commands a window remembers.
const maxWindow = 256

func windowKey(source, id string) string { return source + "\x00" + id }

func (w *window) put(r twin.Result) {
	key := windowKey(r.Source, r.ID)
	if _, ok := w.results[key]; !ok {
		if len(w.keys) == maxWindow {
			delete(w.results, w.keys[0])
			w.keys = slices.Delete(w.keys, 0, 1)
		}
		w.keys = append(w.keys, key)
	}
	w.results[key] = r
}

func (w *window) get(source, id string) (twin.Result, bool) {
	r, ok := w.results[windowKey(source, id)]
	return r, ok
}
