package edgecore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/pkg/twin"
)

// Defaults and bounds of a Reporter.
const (
	DefaultRate       = 20              // messages a second: two thirds of EdgeHub's messageQPS of 30
	DefaultReannounce = 5 * time.Minute // a twin that went wrong anywhere is right again after it
	DefaultStateCycle = time.Minute     // for devices that declare none
	MaxDevices        = 10000           // of one Reporter; more are not reported
)

// Bus is the node's broker.
type Bus interface {
	// Publish returns when the broker has the message; while it is away it waits for ctx.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Subscribe calls handle for every message, one at a time.
	Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error)
	// OnConnect calls hook after each connect.
	OnConnect(hook func())
}

// Config of a Reporter.
type Config struct {
	Bus        Bus
	Node       string                // its twin.LinkTopic tells that the cloud link has returned; "": only LinkUp does
	Rate       float64               // messages a second of all devices together; 0: DefaultRate
	Reannounce time.Duration         // how often all is told again, give or take a quarter; 0: DefaultReannounce
	Log        *slog.Logger          // nil: none
	Registry   prometheus.Registerer // nil: metrics are not registered
}

// Reporter carries twin state to EdgeCore. It implements mapper.Twins; its
// methods never block and may be called from any goroutine, before Start and
// after Stop too. See DESIGN.md. As a service: Start fails only if a subscription
// cannot be, and Stop drops what waits; the next Start tells everything again.
type Reporter struct {
	*service.Runner
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	limiter *rate.Limiter
	wake    chan struct{} // a token when a device has something new
	prefix  string        // of the event ids of this Reporter

	mu       sync.Mutex
	devices  map[twin.DeviceID]*device
	seq      uint64 // of event ids, and of turns
	silent   bool   // EdgeCore left a message without an answer, and has answered none since
	tooMany  bool   // MaxDevices was met; logged once
	oddSaid  map[string]bool
	connects int
	link     twin.LinkState // as told last
}

// NewReporter returns a Reporter; Start runs it.
func NewReporter(cfg Config) *Reporter {
	if cfg.Rate <= 0 {
		cfg.Rate = DefaultRate
	}
	if cfg.Reannounce <= 0 {
		cfg.Reannounce = DefaultReannounce
	}
	var run [4]byte
	_, _ = rand.Read(run[:]) // never fails (crypto/rand)
	r := &Reporter{
		cfg:     cfg,
		log:     cfg.Log,
		limiter: rate.NewLimiter(rate.Limit(cfg.Rate), max(1, int(cfg.Rate/2))),
		wake:    make(chan struct{}, 1),
		prefix:  "tl-" + hex.EncodeToString(run[:]) + "-",
		devices: map[twin.DeviceID]*device{},
		oddSaid: map[string]bool{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.metrics = newMetrics(r, cfg.Registry)
	r.Runner = service.New("twin reporter", r.run)
	cfg.Bus.OnConnect(r.reconnected)
	return r
}

// Report implements mapper.Twins. A property with a bad reading is not reported:
// EdgeCore keeps its last value, and the age of that tells. Readings of properties
// that are not declared are ignored.
func (r *Reporter) Report(decl *twin.Device, readings []twin.Reading) {
	r.with(decl, func(d *device) {
		unfit, news := d.report(readings)
		r.metrics.unfit.Add(float64(unfit))
		for _, p := range news {
			r.log.Warn("value does not fit the twin; it is not reported", "device", d.id.String(), "property", p.name, "why", p.unfit)
		}
	})
}

// State implements mapper.Twins. It is told when it changes and again at the
// device's StateReportCycle.
func (r *Reporter) State(decl *twin.Device, state twin.DeviceState) {
	r.with(decl, func(d *device) { d.state = state })
}

// Forget implements mapper.Twins.
func (r *Reporter) Forget(id twin.DeviceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.devices, id)
	r.metrics.absent.DeleteLabelValues(id.String())
}

// LinkUp says that the node's link to the cloud has returned. What was reported
// meanwhile never reached the cloud, so all is told again.
func (r *Reporter) LinkUp() { r.announceAll(time.Now()) }

// Stats is what a Reporter is at now.
type Stats struct {
	Devices int
	Waiting int // devices whose next message is due or has no answer yet
	Absent  int // devices that EdgeCore does not know
}

// Stats returns what the Reporter is at.
func (r *Reporter) Stats() Stats {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Devices: len(r.devices)}
	for _, d := range r.devices {
		if d.flight != nil || !d.next.After(now) {
			s.Waiting++
		}
		if d.absent {
			s.Absent++
		}
	}
	return s
}

// Problems returns what keeps twins from being whole, in order of devices.
func (r *Reporter) Problems() []twin.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems []twin.Problem
	for _, d := range r.devices {
		problems = append(problems, d.problems()...)
	}
	slices.SortFunc(problems, func(a, b twin.Problem) int {
		return strings.Compare(a.Object+a.Field, b.Object+b.Field)
	})
	return problems
}

// with calls f with the state of a device, and plans its next message.
func (r *Reporter) with(decl *twin.Device, f func(*device)) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.devices[decl.ID]
	if !ok {
		if len(r.devices) >= MaxDevices {
			if !r.tooMany {
				r.tooMany = true
				r.log.Error("too many devices; the twins of some are not reported", "most", MaxDevices)
			}
			return
		}
		d = &device{id: decl.ID}
		r.devices[decl.ID] = d
		d.announceAt = now.Add(r.reannounce())
	}
	if d.decl != decl {
		d.declare(decl)
		for _, p := range d.wrong {
			r.log.Error("twin cannot be reported", "problem", p.Error())
		}
	}
	f(d)
	r.plan(d, now)
}

// plan computes when d is next due and wakes the loop if that is now, or
// sooner than the loop knew when it went to sleep.
func (r *Reporter) plan(d *device, now time.Time) {
	known := d.next
	d.plan()
	if known.IsZero() || d.next.Before(known) || !d.next.After(now) {
		r.poke()
	}
}

func (r *Reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reannounce returns when a device is next told as a whole. With so many
// devices that this would take more than half the budget, it is rarer.
func (r *Reporter) reannounce() time.Duration {
	return jitter(max(r.cfg.Reannounce, r.share(2)), 0.25)
}

// stateCycle returns when a device's state is next repeated; that may take a
// quarter of the budget.
func (r *Reporter) stateCycle(d *device) time.Duration {
	cycle := d.decl.StateReportCycle
	if cycle <= 0 {
		cycle = DefaultStateCycle
	}
	return jitter(max(cycle, r.share(4)), 0.1)
}

// share returns how long a message of each device takes if a part of the budget is used.
func (r *Reporter) share(part int) time.Duration {
	return time.Duration(float64(part*len(r.devices)) / r.cfg.Rate * float64(time.Second))
}

// announceAll makes everything due at at, twice.
func (r *Reporter) announceAll(at time.Time) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		d.announce(firstRepeats)
		d.hurry(at)
		r.plan(d, now)
	}
	r.poke()
}

// reconnected follows a connect of the broker. After the first one EdgeCore has
// lost its connection too, and with it what was under way.
func (r *Reporter) reconnected() {
	r.mu.Lock()
	r.connects++
	first := r.connects == 1
	r.mu.Unlock()
	if !first {
		r.announceAll(time.Now().Add(reconnectGrace))
	}
}

// run is the body of the service.
func (r *Reporter) run(ctx context.Context, ready func()) error {
	handlers := map[string]func(string, []byte){
		AllTwinResults:       r.twinResult,
		NoDeviceResultTopic:  r.noDeviceResult,
		AllStateResults:      r.stateResult,
		AllMembershipUpdates: r.membership,
	}
	if r.cfg.Node != "" {
		handlers[twin.LinkTopic(r.cfg.Node)] = r.linkState
	}
	for filter, handle := range handlers {
		unsubscribe, err := r.cfg.Bus.Subscribe(filter, handle)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", filter, err)
		}
		defer unsubscribe()
	}
	r.mu.Lock()
	for _, d := range r.devices {
		d.flight = nil
		d.announce(firstRepeats)
		d.hurry(time.Time{})
		d.plan()
	}
	r.mu.Unlock()
	ready()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m, d, wait := r.next(time.Now())
		if m != nil {
			if err := r.send(ctx, m, d); err != nil {
				return err
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		case <-timer.C:
		}
	}
}

const (
	maxIdle     = time.Minute // bounds a sleep of the loop
	repeatShare = 4           // of so many messages one may be a repetition though there is news elsewhere
)

// next returns the next message and its device, or how long to wait.
func (r *Reporter) next(now time.Time) (*message, *device, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		d, wait := r.pick(now)
		if d == nil {
			return nil, nil, wait
		}
		reservation := r.limiter.ReserveN(now, 1)
		if wait := reservation.DelayFrom(now); wait > 0 {
			reservation.CancelAt(now)
			return nil, nil, wait
		}
		if !now.Before(d.announceAt) {
			d.announce(1)
			d.announceAt = now.Add(r.reannounce())
		}
		r.seq++
		m := d.compose(now, r.prefix+strconv.FormatUint(r.seq, 10))
		d.plan()
		if m != nil {
			d.turn = r.seq
			return m, d, 0
		}
		reservation.CancelAt(now)
	}
}

// pick returns the device to serve, or how long to wait for one: of those with
// news the one that was served longest ago, and every repeatShare-th time of all
// that are due. It ends flights whose time is up.
func (r *Reporter) pick(now time.Time) (*device, time.Duration) {
	var news, any *device
	wait := maxIdle
	for _, d := range r.devices {
		if d.flight != nil && !d.flight.deadline.IsZero() && !now.Before(d.flight.deadline) {
			r.metrics.results.WithLabelValues("timeout").Inc()
			r.silent = true
			d.failed(now)
			d.plan()
		}
		if d.flight != nil || d.next.After(now) {
			wait = min(wait, max(d.next.Sub(now), time.Millisecond))
			continue
		}
		if any == nil || d.turn < any.turn {
			any = d
		}
		if !d.newsAt.After(now) && (news == nil || d.turn < news.turn) {
			news = d
		}
	}
	if news != nil && r.seq%repeatShare != 0 {
		return news, wait
	}
	return any, wait
}

// send publishes m; the answer is awaited from when the broker has it.
func (r *Reporter) send(ctx context.Context, m *message, d *device) error {
	kind := "twin"
	if m.flight.state != "" {
		kind = "state"
	}
	r.metrics.messages.WithLabelValues(kind).Inc()
	err := r.cfg.Bus.Publish(ctx, m.topic, m.payload)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.flight != m.flight {
		return nil // answered, or forgotten
	}
	if err != nil { // the bus only refuses what breaks its bounds
		r.log.Error("report cannot be sent", "device", d.id.String(), "cause", err)
		d.failed(now)
	} else {
		d.flight.deadline = now.Add(resultTimeout)
	}
	d.plan()
	return nil
}
