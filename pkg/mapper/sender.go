package mapper

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of sending.
const (
	minPublishPause = time.Second
	maxPublishPause = 30 * time.Second
	// maxResults bounds the results that wait for the broker: they answer somebody
	// who waits seconds, so an old one has no worth.
	maxResults = 1024
)

// send publishes the stream's samples in order, one at a time, until ctx ends
// or the stream is closing and empty. A publish that fails is repeated.
func (s *stream) send(ctx context.Context, bus Bus, log *slog.Logger) {
	topic := twin.TelemetryTopic(s.id)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e, ok, wait, done := s.next(time.Now())
		if done {
			return
		}
		if ok {
			if !publish(ctx, bus, topic, e.payload, log) {
				return
			}
			s.confirm(e, time.Now())
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-s.wake:
		case <-due:
		case <-ctx.Done():
			return
		}
	}
}

// publish repeats until the broker has the payload; it reports false when ctx ended before.
func publish(ctx context.Context, bus Bus, topic string, payload []byte, log *slog.Logger) bool {
	for pause := minPublishPause; ; pause = min(2*pause, maxPublishPause) {
		err := bus.Publish(ctx, topic, payload)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		log.Debug("publish failed, it is repeated", "topic", topic, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}

// results sends what became of commands, in order.
type results struct {
	mu      sync.Mutex
	queue   []outgoing
	closing bool
	dropped uint64
	wake    chan struct{} // capacity 1
}

type outgoing struct {
	topic   string
	payload []byte
}

func newResults() *results { return &results{wake: make(chan struct{}, 1)} }

// add never blocks; beyond maxResults the oldest is dropped and counted.
func (q *results) add(topic string, payload []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == maxResults {
		q.queue = q.queue[1:]
		q.dropped++
	}
	q.queue = append(q.queue, outgoing{topic, payload})
	q.signal()
}

func (q *results) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing = true
	q.signal()
}

func (q *results) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *results) take() (o outgoing, ok, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return outgoing{}, false, q.closing
	}
	o, q.queue = q.queue[0], q.queue[1:]
	return o, true, false
}

func (q *results) send(ctx context.Context, bus Bus, log *slog.Logger) {
	for {
		o, ok, done := q.take()
		switch {
		case done:
			return
		case ok:
			if !publish(ctx, bus, o.topic, o.payload, log) {
				return
			}
		default:
			select {
			case <-q.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}
