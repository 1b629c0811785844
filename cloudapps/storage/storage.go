// Package storage takes telemetry from Kafka into a database, each sample once.
// See DESIGN.md.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service"
)

// Source is the consumer of a topic; kafka.Consumer is one.
type Source interface {
	// Run consumes until ctx ends, one batch at a time; see kafka.Sink.
	Run(ctx context.Context, sink kafka.Sink) error
	// Ready says why nothing can be consumed now. It does not block.
	Ready() error
}

// Producer sends dead letters; kafka.Producer is one.
type Producer interface {
	// Produce returns nil when all records are acknowledged.
	Produce(ctx context.Context, topic string, records []kafka.Record) error
	// Ready says why nothing can be produced now. It does not block.
	Ready() error
}

// Deps are what the service works with.
type Deps struct {
	Store    Store
	Source   Source
	Letters  Producer
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Bounds of the service.
const (
	// commitTimeout bounds one try of a transaction: so long may a database be silent
	// before its connection is given up. A batch of 5000 events takes a second.
	commitTimeout = 60 * time.Second
	letterTimeout = 30 * time.Second
	pingInterval  = 2 * time.Second
	pingTimeout   = 3 * time.Second
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = 15 * time.Second
)

// Storage is the service. It starts without waiting for Kafka or the database:
// while one is away it is not ready, holds what one fetch brought, and tries again for
// ever. Stopping takes kafka.Grace and 2 s at most.
type Storage struct {
	*service.Runner
	topic, letterTopic string
	deps               Deps
	log                *slog.Logger
	metrics            *metrics
	unreadable         app.Subjects

	mu     sync.Mutex
	faults map[string]error // what is away now, by what was tried
}

// New returns the service. The Source, the Store and the Producer are the
// caller's to start and to close.
func New(cfg Config, deps Deps) *Storage {
	s := &Storage{
		topic: cfg.Topic, letterTopic: cfg.DeadLetter,
		deps: deps, log: deps.Log, metrics: newMetrics(deps.Registry),
		faults: map[string]error{},
	}
	s.Runner = service.New("storage", s.run)
	return s
}

// Ready says why nothing can be stored now. It does not block.
func (s *Storage) Ready() error {
	s.mu.Lock()
	var errs []error
	for _, err := range s.faults {
		errs = append(errs, err)
	}
	s.mu.Unlock()
	return errors.Join(append(errs, s.deps.Source.Ready(), s.deps.Letters.Ready())...)
}

func (s *Storage) run(ctx context.Context, ready func()) error {
	s.mu.Lock()
	s.faults["migrate"] = errors.New("the database is not migrated yet")
	s.mu.Unlock()
	ready()
	if s.retry(ctx, "migrate", s.deps.Store.Migrate) != nil {
		return nil // asked to stop
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { s.watch(watch) })
	return s.deps.Source.Run(ctx, sink{s})
}

// watch asks the database for a sign of life, so that Ready is true to it also without traffic.
func (s *Storage) watch(ctx context.Context) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		ping, cancel := context.WithTimeout(ctx, pingTimeout)
		err := s.deps.Store.Ping(ping)
		cancel()
		if ctx.Err() == nil {
			s.fault("ping", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// fault records that what is away, or is back, and logs the change.
func (s *Storage) fault(what string, err error) {
	s.mu.Lock()
	before := s.faults[what]
	if err == nil {
		delete(s.faults, what)
	} else {
		s.faults[what] = err
	}
	s.mu.Unlock()
	switch {
	case before == nil && err != nil:
		s.log.Warn("cannot "+what+", trying again", "error", err)
	case before != nil && err == nil:
		s.log.Info("can " + what + " again")
	}
}

// retry calls f until it succeeds, with growing pauses; only the end of ctx,
// ErrFenced and ErrRefused end it early.
func (s *Storage) retry(ctx context.Context, what string, f func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := f(ctx)
		if ctx.Err() != nil && err != nil {
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		}
		if err == nil || errors.Is(err, history.ErrFenced) || errors.Is(err, history.ErrRefused) {
			s.fault(what, nil) // the other side is there
			return err
		}
		s.fault(what, err)
		s.metrics.retries.WithLabelValues(what).Inc()
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-time.After(backoff(attempt)):
		}
	}
}

// backoff is a random pause up to minBackoff, doubled by each attempt up to maxBackoff.
func backoff(attempt int) time.Duration {
	limit := maxBackoff
	if attempt < 10 {
		limit = min(limit, minBackoff<<attempt)
	}
	return rand.N(limit) + time.Millisecond
}
