package uplink

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// link measures whether the way to the cloud works: it is up when the cloud has
// acknowledged, and down when nothing was acknowledged for DownAfter although
// something was sent. Until the first answer it is unknown, and nothing is published.
type link struct {
	node      string
	downAfter time.Duration
	wake      chan struct{}

	mu     sync.Mutex
	state  twin.LinkState
	known  bool
	tried  time.Time // when the first attempt since the last success began; zero: none
	told   bool      // the state is published
	reason string    // why the last attempt failed
}

func newLink(cfg Config) *link {
	return &link{node: cfg.Node, downAfter: cfg.DownAfter, wake: make(chan struct{}, 1)}
}

// attempt notes that something is sent.
func (l *link) attempt(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tried.IsZero() {
		l.tried = now
		signal(l.wake)
	}
}

// success notes that the cloud acknowledged.
func (l *link) success(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried, l.reason = time.Time{}, ""
	l.change(true, now)
}

// failure notes why an attempt failed.
func (l *link) failure(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = reason
}

// again has the state published once more: the broker may have forgotten it.
func (l *link) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = false
	signal(l.wake)
}

// reset begins a run: what was measured before it is no longer known.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried, l.known, l.told = time.Time{}, false, false
}

// check makes the link down when it is time, and returns how long until then; zero: nothing is awaited.
func (l *link) check(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tried.IsZero() || (l.known && !l.state.Up) {
		return 0
	}
	if left := l.tried.Add(l.downAfter).Sub(now); left > 0 {
		return left
	}
	l.change(false, now)
	return 0
}

// change sets the state. Under mu.
func (l *link) change(up bool, now time.Time) {
	if l.known && l.state.Up == up {
		return
	}
	l.state = twin.LinkState{Node: l.node, Up: up, Since: now.UTC().Truncate(time.Microsecond)}
	l.known, l.told = true, false
	signal(l.wake)
}

// get returns the state; ok is false while it is unknown.
func (l *link) get() (state twin.LinkState, reason string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.reason, l.known
}

// untold returns a state that is to be published.
func (l *link) untold() (twin.LinkState, string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || l.told {
		return twin.LinkState{}, "", false
	}
	l.told = true
	return l.state, l.reason, true
}

// publish publishes the state whenever it changes, retained, until ctx ends.
func (l *link) publish(ctx context.Context, bus Bus, log *slog.Logger) error {
	var logged time.Time
	for {
		wait := l.check(time.Now())
		if state, reason, ok := l.untold(); ok {
			if state.Since != logged {
				logged = state.Since
				log.Info("cloud link", "up", state.Up, "reason", reason)
			}
			payload, err := json.Marshal(state)
			if err != nil {
				return err // cannot be: a text, a flag and a time
			}
			if err := bus.PublishRetained(ctx, twin.LinkTopic(l.node), payload); err != nil && ctx.Err() == nil {
				log.Warn("link state not published", "error", err)
			}
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-l.wake:
		case <-due:
		case <-ctx.Done():
			return nil
		}
	}
}
