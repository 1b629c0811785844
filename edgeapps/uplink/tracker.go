package uplink

import (
	"slices"
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// verdict says what to do with a sample.
type verdict uint8

const (
	fresh     verdict = iota // store it
	duplicate                // it is stored already
	stale                    // of an epoch before the device's; see tracker.judge
	excess                   // of a device beyond the bound
)

// tracker knows of every device which samples are stored. It decides what is a
// duplicate, and what may be acknowledged: an acknowledgement covers all samples up to a
// position, so it must not reach over a hole that the mapper can still fill.
type tracker struct {
	maxDevices int

	mu      sync.Mutex
	devices map[twin.DeviceID]*progress
	gaps    uint64 // samples that never came
}

// progress is what is stored of one device.
type progress struct {
	pos    twin.Position // everything of the epoch up to here is stored, or will never come
	ahead  []span        // of the epoch, beyond a hole; ascending, apart from each other
	seen   time.Time     // when the first hole was seen
	since  time.Time     // when its round began
	rounds int           // in which the sample beyond it came again
}

type span struct{ first, last uint64 }

func newTracker(maxDevices int) *tracker {
	return &tracker{maxDevices: maxDevices, devices: map[twin.DeviceID]*progress{}}
}

// judge says what to do with a sample.
//
// A sample of an earlier epoch comes twice from the broker, or from a mapper
// that has lost its epoch counter. In both cases it must not be stored: the cloud would
// take it for what it has under that number. The acknowledgement that answers it makes
// such a mapper raise its epoch and send the sample anew.
func (t *tracker) judge(id twin.DeviceID, p twin.Position) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.devices[id]
	switch {
	case !ok && len(t.devices) >= t.maxDevices:
		return excess
	case !ok || p.Epoch > d.pos.Epoch:
		return fresh
	case p.Epoch < d.pos.Epoch:
		return stale
	case p.Seq <= d.pos.Seq || d.has(p.Seq):
		return duplicate
	}
	return fresh
}

// again notes that a duplicate came. Mappers send again in order, from the
// oldest sample they have. So when the first sample beyond a hole comes again, and a round later once
// more, what is before it will not come, and the hole is final. Two rounds, because the
// broker may have lost the filling in one. Fresh samples that came before the
// duplicate must have been given to stored.
func (t *tracker) again(id twin.DeviceID, p twin.Position, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.devices[id]
	if !ok || p.Epoch != d.pos.Epoch || len(d.ahead) == 0 || p.Seq != d.ahead[0].first || now.Sub(d.since) < gapPatience {
		return
	}
	d.since = now
	if d.rounds++; d.rounds >= gapRounds {
		t.settle(d, now)
	}
}

// refused notes that a sample was not taken for want of room: the sender begins anew.
func (t *tracker) refused(id twin.DeviceID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d, ok := t.devices[id]; ok {
		d.since, d.rounds = now, 0
	}
}

func (d *progress) has(seq uint64) bool {
	for _, s := range d.ahead {
		if seq >= s.first && seq <= s.last {
			return true
		}
	}
	return false
}

// stored notes that a fresh sample is on disk, and reports whether the position moved.
func (t *tracker) stored(id twin.DeviceID, p twin.Position, now time.Time) (moved bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.devices[id]
	if !ok {
		d = &progress{}
		t.devices[id] = d
	}
	if p.Epoch < d.pos.Epoch {
		return false
	}
	if p.Epoch > d.pos.Epoch {
		*d = progress{pos: twin.Position{Epoch: p.Epoch}}
	}
	if p.Seq <= d.pos.Seq || d.has(p.Seq) {
		return false
	}
	before := d.pos
	if len(d.ahead) == 0 {
		d.begin(now)
	}
	d.insert(p.Seq)
	d.absorb(now)
	if len(d.ahead) > maxAhead { // forgotten, not acknowledged: it may be stored twice, which is harmless
		d.ahead = d.ahead[:maxAhead]
	}
	if len(d.ahead) > 0 && now.Sub(d.seen) >= gapLimit {
		t.settle(d, now)
	}
	return d.pos != before
}

// insert adds seq to ahead and joins what touches.
func (d *progress) insert(seq uint64) {
	i, _ := slices.BinarySearchFunc(d.ahead, seq, func(s span, seq uint64) int {
		if s.last < seq {
			return -1
		}
		return 1
	})
	if i > 0 && d.ahead[i-1].last+1 == seq {
		d.ahead[i-1].last = seq
		i--
	} else {
		d.ahead = slices.Insert(d.ahead, i, span{seq, seq})
	}
	if i+1 < len(d.ahead) && d.ahead[i+1].first == d.ahead[i].last+1 {
		d.ahead[i].last = d.ahead[i+1].last
		d.ahead = slices.Delete(d.ahead, i+1, i+2)
	}
}

// absorb moves the position over what follows it without a hole.
func (d *progress) absorb(now time.Time) {
	for len(d.ahead) > 0 && d.ahead[0].first == d.pos.Seq+1 {
		d.pos.Seq = d.ahead[0].last
		d.ahead = slices.Delete(d.ahead, 0, 1)
		d.begin(now)
	}
}

// begin starts to wait for the first hole to be filled.
func (d *progress) begin(now time.Time) { d.seen, d.since, d.rounds = now, now, 0 }

// settle takes the first hole as final.
func (t *tracker) settle(d *progress, now time.Time) {
	t.gaps += d.ahead[0].first - d.pos.Seq - 1
	d.pos.Seq = d.ahead[0].first - 1
	d.absorb(now)
}

// restore sets a device's position as it was written to disk.
func (t *tracker) restore(positions map[twin.DeviceID]twin.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range positions {
		if len(t.devices) < t.maxDevices {
			t.devices[id] = &progress{pos: p}
		}
	}
}

// position returns up to where a device's samples are acknowledged.
func (t *tracker) position(id twin.DeviceID) (p twin.Position, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.devices[id]
	if !ok || d.pos.Seq == 0 {
		return twin.Position{}, false
	}
	return d.pos, true
}

// positions returns the position of every device.
func (t *tracker) positions() map[twin.DeviceID]twin.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[twin.DeviceID]twin.Position, len(t.devices))
	for id, d := range t.devices {
		if d.pos.Seq != 0 {
			all[id] = d.pos
		}
	}
	return all
}

func (t *tracker) missing() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gaps
}
