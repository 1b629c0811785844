package mapper

import (
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

const (
	// consumerMemory is how long after its last word an acknowledging consumer
	// is taken to be there: past it nothing is resent until it speaks again.
	consumerMemory = 15 * time.Minute
	// maxAckTimeout bounds the pause between two resends, which doubles from AckTimeout.
	maxAckTimeout = time.Minute
	// maxEpoch bounds the epoch that is taken from an acknowledgement.
	maxEpoch = 1 << 62
)

// backlog holds the samples that nobody has confirmed yet, of all devices. A
// sample is done when the broker has it, or, once an acknowledging consumer
// (an uplink) was ever seen, when one has acknowledged it. One lock for all: it
// is held for a few memory operations per sample.
type backlog struct {
	maxSamples, maxBytes int
	ackTimeout           time.Duration

	mu       sync.Mutex
	streams  map[*stream]struct{}
	bytes    int
	samples  int
	consumer time.Time // when one last spoke; zero: never

	published, resent, dropped uint64
}

func newBacklog(c *Config) *backlog {
	return &backlog{maxSamples: c.BacklogSamples, maxBytes: c.BacklogBytes, ackTimeout: c.AckTimeout, streams: map[*stream]struct{}{}}
}

// stream is the sequence of samples of one device.
type stream struct {
	b    *backlog
	id   twin.DeviceID
	wake chan struct{} // capacity 1

	// All below is guarded by b.mu.
	epoch, seq uint64 // of the newest sample
	ring       []entry
	bytes      int           // of ring
	sent       int           // how many of ring, from the front, the broker has in this round
	patience   time.Duration // how long to wait for an acknowledgement now
	dropped    uint64
	raised     uint64 // how often the epoch was raised
	closing    bool
	flying     bool // next gave one out that is not confirmed
}

type entry struct {
	pos     twin.Position
	payload []byte
	sentAt  time.Time // zero: never
}

// open returns the stream of a device; its next sample has the position after pos.
func (b *backlog) open(id twin.DeviceID, pos twin.Position) *stream {
	s := &stream{b: b, id: id, wake: make(chan struct{}, 1), epoch: pos.Epoch, seq: pos.Seq, patience: b.ackTimeout}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams[s] = struct{}{}
	return s
}

// close forgets the stream, counts as dropped what the broker never had, and
// returns the last position.
func (s *stream) close() twin.Position {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for len(s.ring) > 0 {
		if s.ring[0].sentAt.IsZero() {
			s.drop()
			continue
		}
		s.pop()
	}
	delete(s.b.streams, s)
	return twin.Position{Epoch: s.epoch, Seq: s.seq}
}

// add gives the readings their place in the sequence and queues them. It never
// blocks: what is beyond the bounds is forced out, the oldest first, from the device
// that holds most. It reports false for a sample too large for the wire, which
// is dropped; its sequence number is not used again, so the hole shows.
func (s *stream) add(at time.Time, readings []twin.Reading) bool {
	s.b.mu.Lock()
	s.seq++
	pos := twin.Position{Epoch: s.epoch, Seq: s.seq}
	s.b.mu.Unlock()
	sample := twin.Sample{Device: s.id, Epoch: pos.Epoch, Seq: pos.Seq, Time: at, Readings: readings}
	payload := sample.AppendJSON(make([]byte, 0, 128+32*len(readings)))

	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if pos.Epoch != s.epoch { // the epoch was raised meanwhile
		s.seq++
		pos = twin.Position{Epoch: s.epoch, Seq: s.seq}
		sample.Epoch, sample.Seq = pos.Epoch, pos.Seq
		payload = sample.AppendJSON(payload[:0])
	}
	if len(payload) > twin.MaxSampleSize {
		s.dropped++
		s.b.dropped++
		return false
	}
	s.ring = append(s.ring, entry{pos: pos, payload: payload})
	s.b.samples++
	s.hold(len(payload))
	for len(s.ring) > s.b.maxSamples {
		s.drop()
	}
	for s.b.bytes > s.b.maxBytes {
		s.b.largest().drop()
	}
	s.signal()
	return true
}

func (b *backlog) largest() *stream {
	var found *stream
	most := -1
	for s := range b.streams {
		if s.bytes > most {
			found, most = s, s.bytes
		}
	}
	return found
}

// drop forces the oldest sample out that is not on its way to the broker.
func (s *stream) drop() {
	if s.flying && s.sent == 0 && len(s.ring) > 1 {
		s.ring[0], s.ring[1] = s.ring[1], s.ring[0]
	}
	s.pop()
	s.dropped++
	s.b.dropped++
}

// hold accounts for n bytes more.
func (s *stream) hold(n int) {
	s.bytes += n
	s.b.bytes += n
}

func (s *stream) pop() {
	s.hold(-len(s.ring[0].payload))
	s.b.samples--
	s.ring[0] = entry{}
	s.ring = s.ring[1:]
	s.sent = max(0, s.sent-1)
}

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next returns the sample to send now, or how long there is none unless
// signalled (zero: until then). done is true when the stream is closing and all is sent.
func (s *stream) next(now time.Time) (e entry, ok bool, wait time.Duration, done bool) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.sent < len(s.ring) {
		s.flying = true
		return s.ring[s.sent], true, 0, false
	}
	if s.closing {
		return entry{}, false, 0, true
	}
	if s.sent == 0 || s.b.consumer.IsZero() || now.Sub(s.b.consumer) > consumerMemory {
		return entry{}, false, 0, false
	}
	if wait = s.ring[0].sentAt.Add(s.patience).Sub(now); wait > 0 {
		return entry{}, false, wait, false
	}
	s.sent, s.flying = 0, true
	s.patience = min(2*s.patience, max(maxAckTimeout, s.b.ackTimeout))
	return s.ring[0], true, 0, false
}

// confirm notes that the broker has e.
func (s *stream) confirm(e entry, now time.Time) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.flying = false
	s.b.published++
	if !e.sentAt.IsZero() {
		s.b.resent++
	}
	if s.sent >= len(s.ring) || s.ring[s.sent].pos != e.pos {
		return // acknowledged, forced out or renumbered meanwhile
	}
	if s.b.consumer.IsZero() {
		s.pop() // it is the first: nothing confirmed is kept
		return
	}
	s.ring[s.sent].sentAt = now
	s.sent++
}

// heard notes that an acknowledging consumer spoke. After a long silence
// everything that is not acknowledged is sent again.
func (b *backlog) heard(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	silent := now.Sub(b.consumer) > consumerMemory
	b.consumer = now
	if !silent {
		return
	}
	for s := range b.streams {
		s.patience = b.ackTimeout // which is over for all that was sent before the silence
		s.signal()
	}
}

// ack frees everything up to and with pos. A position ahead of everything
// sent says that the epoch counter was lost (no Store, or an old copy of it): the
// consumer would take all we send for duplicates. Then the epoch is raised above it and
// what is queued is numbered anew; ack reports that.
func (s *stream) ack(pos twin.Position) (raised bool) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if (twin.Position{Epoch: s.epoch, Seq: s.seq}).Before(pos) {
		return s.raise(pos.Epoch)
	}
	for len(s.ring) > 0 && !pos.Before(s.ring[0].pos) {
		s.pop()
		s.patience = s.b.ackTimeout
	}
	return false
}

func (s *stream) raise(above uint64) bool {
	if above >= maxEpoch {
		return false
	}
	s.epoch, s.seq, s.sent = above+1, 0, 0
	s.raised++
	kept := s.ring[:0]
	for _, e := range s.ring {
		var sample twin.Sample
		if sample.UnmarshalJSON(e.payload) != nil { // cannot be: we wrote it
			s.hold(-len(e.payload))
			continue
		}
		s.seq++
		sample.Epoch, sample.Seq = s.epoch, s.seq
		s.hold(-len(e.payload))
		e = entry{pos: twin.Position{Epoch: s.epoch, Seq: s.seq}, payload: sample.AppendJSON(nil)}
		s.hold(len(e.payload))
		kept = append(kept, e)
	}
	s.b.samples -= len(s.ring) - len(kept)
	s.ring = kept
	s.signal()
	return true
}

// finish makes the sender end once everything is sent.
func (s *stream) finish() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.closing = true
	s.signal()
}

// streamStatus is a stream at one moment.
type streamStatus struct {
	pos     twin.Position
	waiting int
	dropped uint64
}

func (s *stream) status() streamStatus {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return streamStatus{pos: twin.Position{Epoch: s.epoch, Seq: s.seq}, waiting: len(s.ring), dropped: s.dropped}
}
