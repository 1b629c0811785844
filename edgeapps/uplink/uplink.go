// Package uplink brings a node's telemetry to the cloud and loses none of it:
// it reads the local bus, stores every sample on disk, acknowledges it on the
// bus, and sends it in batches until the cloud has acknowledged it. It also measures, by
// doing so, whether the way to the cloud works. DESIGN.md says how.
package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

// Bus is the node's MQTT broker.
type Bus interface {
	// Publish sends with QoS 1 and returns when the broker has it. While the
	// broker is away it waits, until ctx ends.
	Publish(ctx context.Context, topic string, payload []byte) error
	// PublishRetained is Publish of a message that the broker keeps.
	PublishRetained(ctx context.Context, topic string, payload []byte) error
	// Subscribe calls handle for every message that matches filter, one at a
	// time, from now on and after every reconnect. handle may keep payload.
	Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error)
	// OnConnect has hook called after each connect. Calls do not overlap.
	OnConnect(hook func())
}

// Log is the durable log that samples wait in: a *spool.Spool.
type Log interface {
	// Append stores records and returns the last one's number when they are on
	// disk. After an error none counts as stored.
	Append(ctx context.Context, records ...spool.Record) (last uint64, err error)
	// Read returns records from a number on; none when there are no more.
	Read(from uint64, maxRecords, maxBytes int) ([]spool.Record, error)
	// Ack lets everything up to a number go.
	Ack(upTo uint64) error
	// Stats returns the numbers of now.
	Stats() spool.Stats
	// Lost returns how many records of each key the byte bound forced out.
	Lost() map[string]uint64
}

// Store is a Log as it is opened: with an identity and an end.
type Store interface {
	Log
	ID() string      // names the log for ever
	Notes() []string // what was found amiss when it was opened
	Close() error
}

// Sender carries one batch to the cloud.
type Sender interface {
	// Send delivers an encoded batch and returns the cloud's answer. An error
	// means that there is none, and that the batch may be sent again. It blocks for
	// a bounded time, and returns soon after ctx ends.
	Send(ctx context.Context, encoded []byte) (forward.Ack, error)
}

// Deps are what an Uplink works with.
type Deps struct {
	Bus      Bus
	Sender   Sender
	Open     func() (Store, error) // opens the spool; called by every Start, closed by every end
	Log      *slog.Logger          // nil: none
	Registry prometheus.Registerer // nil: metrics are not registered
}

// Uplink is the service. Start fails if the spool cannot be opened; it waits
// neither for the bus nor for the cloud. Stop takes as long as a sync of the
// disk. It needs the Bus to be started after it: what comes while no Uplink runs
// is not stored.
type Uplink struct {
	*service.Runner
	cfg     Config
	deps    Deps
	log     *slog.Logger
	codec   *forward.Codec
	counts  counts
	link    *link
	acks    *acks
	refused app.Subjects

	mu      sync.Mutex
	current *session // nil while the service does not run
}

// session is one run, from Start to Stop.
type session struct {
	*Uplink
	store   Store
	stream  string
	intake  *intake
	tracker *tracker
	wake    chan struct{} // a token when records were appended
	through atomic.Uint64 // the tracker knows every record up to this one
	health  health
}

// New returns an Uplink, or what is wrong with cfg. It registers its metrics
// and a hook on the bus, so it is called once for each of them.
func New(cfg Config, deps Deps) (*Uplink, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	u := &Uplink{
		cfg: cfg, deps: deps, log: deps.Log,
		codec: forward.NewCodec(1), link: newLink(cfg), acks: newAcks(),
	}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	u.Runner = service.New("uplink", u.run)
	deps.Bus.OnConnect(func() {
		u.link.again()
		u.acks.all()
	})
	if deps.Registry != nil {
		if err := deps.Registry.Register(&collector{u}); err != nil {
			return nil, fmt.Errorf("uplink: register metrics: %w", err)
		}
	}
	return u, nil
}

// run is the body of the service.
func (u *Uplink) run(ctx context.Context, ready func()) (err error) {
	store, err := u.deps.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, note := range store.Notes() {
		u.log.Warn("spool mended", "note", note)
	}
	s := &session{
		Uplink: u, store: store, stream: u.cfg.Node + "/" + store.ID(),
		intake: newIntake(u.cfg.IntakeBytes), tracker: newTracker(u.cfg.MaxDevices), wake: make(chan struct{}, 1),
	}
	if err := s.restorePositions(ctx); err != nil {
		return err
	}
	s.acks.set(s.tracker.positions())
	s.link.reset()
	group, ctx := errgroup.WithContext(ctx)
	unsubscribe, err := u.deps.Bus.Subscribe(twin.AllTelemetry, func(topic string, payload []byte) { s.receive(ctx, topic, payload) })
	if err != nil {
		return err
	}
	defer unsubscribe()
	u.setCurrent(s)
	defer u.setCurrent(nil)
	group.Go(func() error { return s.storeSamples(ctx) })
	group.Go(func() error { return s.keepPositions(ctx) })
	group.Go(func() error { return newDelivery(s).run(ctx) })
	group.Go(func() error { return s.acks.publish(ctx, u.deps.Bus, u.cfg.Node) })
	group.Go(func() error { return s.link.publish(ctx, u.deps.Bus, u.log) })
	ready()
	return group.Wait()
}

func (u *Uplink) setCurrent(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = s
}

func (u *Uplink) session() *session {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.current
}

// Ready says why samples cannot be stored, or are not taken by the cloud
// although it answers; nil when all is well. A cut link is no reason: bridging it is
// what an uplink is for. It does not block.
func (u *Uplink) Ready() error {
	s := u.session()
	if s == nil {
		return errors.New("not running")
	}
	return s.health.err()
}

// health holds what keeps a session from its work, by part.
type health struct {
	mu      sync.Mutex
	storing error
	sending error
}

func (h *health) setStoring(err error) (changed bool) { return h.set(&h.storing, err) }
func (h *health) setSending(err error) (changed bool) { return h.set(&h.sending, err) }

func (h *health) set(part *error, err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = (*part == nil) != (err == nil)
	*part = err
	return changed
}

func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.storing, h.sending)
}

func (h *health) stalled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.storing != nil
}

// pause waits for d, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
