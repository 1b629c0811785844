package reactor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/pkg/twin"
)

// Deps is what a Reactor works with. All but Log and Registry are needed.
type Deps struct {
	Bus      Bus
	Rules    Source
	Store    Store
	Log      *slog.Logger          // nil: no logs
	Registry prometheus.Registerer // nil: its own
}

// Reactor is the service. A stop takes no longer than one publish under way; it
// releases nothing: claims end by their TTL, or the next start takes them up.
type Reactor struct {
	*service.Runner
	deps    Deps
	metrics *metrics

	mu     sync.Mutex // guards engine, which is replaced by each start
	engine *engine

	inbox   inbox
	publish chan struct{} // there may be something to publish
}

var _ service.Service = (*Reactor)(nil)

// New returns a Reactor.
func New(deps Deps) *Reactor {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Registry == nil {
		deps.Registry = prometheus.NewRegistry()
	}
	r := &Reactor{deps: deps, publish: make(chan struct{}, 1)}
	r.metrics = newMetrics(deps.Registry, r)
	r.inbox = inbox{signal: make(chan struct{}, 1), metrics: r.metrics, log: deps.Log}
	r.Runner = service.New("reactor", r.run)
	return r
}

// count asks the engine; 0 before the first start.
func (r *Reactor) count(value func(*engine) int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.engine == nil {
		return 0
	}
	return value(r.engine)
}

// Ready reports why the reactor cannot do its work now.
func (r *Reactor) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.engine == nil || !r.engine.loaded {
		return fmt.Errorf("the rules are not loaded yet")
	}
	return nil
}

func (r *Reactor) run(ctx context.Context, ready func()) error {
	state, err := r.deps.Store.Load()
	if err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	boot := make([]byte, 6)
	_, _ = rand.Read(boot) // crypto/rand never fails
	n := uint64(0)
	newID := func() string { // ids of two starts never meet
		n++
		return hex.EncodeToString(boot) + "-" + strconv.FormatUint(n, 10)
	}
	r.mu.Lock()
	r.engine = newEngine(r.deps.Log, r.metrics, newID, state)
	r.mu.Unlock()
	r.inbox.reset()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.deps.Rules.Run(ctx, r.inbox.setRules) })
	group.Go(func() error { return r.publishAll(ctx) })
	group.Go(func() error { return r.react(ctx, ready) })
	return group.Wait()
}

// react takes what comes, in order, and does what is due.
func (r *Reactor) react(ctx context.Context, ready func()) error {
	subs := subscriptions{bus: r.deps.Bus, inbox: &r.inbox, active: map[string]func(){}}
	defer func() { _ = subs.set(nil) }() // ending a subscription does not fail
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		batch := r.inbox.take()
		next, topics := r.apply(batch, time.Now())
		if batch.rules != nil {
			if err := subs.set(topics); err != nil {
				return err
			}
			logProblems(r.deps.Log, batch.rules.problems)
			ready()
		}
		if again := r.save(); again {
			next = sooner(next, time.Now().Add(retryPause))
		}
		r.mu.Lock()
		r.engine.clear()
		r.mu.Unlock()
		signal(r.publish)
		timer.Stop()
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-r.inbox.signal:
		case <-due:
		}
	}
	return nil
}

func logProblems(log *slog.Logger, problems []twin.Problem) {
	for _, p := range problems {
		log.Warn("mistake in a rule", "object", p.Object, "field", p.Field, "what", p.What, "remedy", p.Remedy)
	}
}

// apply puts a batch into the engine and does what is due.
func (r *Reactor) apply(b batch, now time.Time) (next time.Time, topics map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.engine
	if b.rules != nil {
		e.setRules(b.rules.rules, b.rules.problems, now)
		topics = e.topics()
	}
	for i := range b.messages {
		if m := &b.messages[i]; m.sample != nil {
			e.sample(m.sample, now)
		} else {
			e.result(m.device, m.result)
		}
	}
	return e.tick(now), topics
}

// save writes the state if it changed; true means that it failed and is to be tried again.
// Claims are published all the same: reacting goes before a tidy restart, and TTLs bound the harm.
func (r *Reactor) save() (again bool) {
	r.mu.Lock()
	if !r.engine.unsaved || !r.engine.loaded {
		r.mu.Unlock()
		return false
	}
	state := r.engine.state()
	r.engine.unsaved = false
	r.mu.Unlock()
	err := r.deps.Store.Save(state)
	if err == nil {
		return false
	}
	r.metrics.saveErrors.Inc()
	r.deps.Log.Error("state not saved", "err", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engine.unsaved = true
	return true
}

// publishAll publishes queued commands, one at a time, so that they stay in order.
func (r *Reactor) publishAll(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.publish:
		}
		for r.publishOne(ctx) {
		}
	}
}

// publishOne publishes the next command; false if there is none or ctx ended.
func (r *Reactor) publishOne(ctx context.Context) bool {
	r.mu.Lock()
	c, cmd, ok := r.engine.take()
	r.mu.Unlock()
	if !ok {
		return false
	}
	payload, err := json.Marshal(cmd)
	if err == nil {
		try, cancel := context.WithTimeout(ctx, publishTimeout)
		err = r.deps.Bus.Publish(try, twin.CommandTopic(c.device), payload)
		cancel()
	}
	r.mu.Lock()
	r.engine.published(c, cmd.ID, err, time.Now())
	r.mu.Unlock()
	signal(r.inbox.signal) // its next due time is known now
	if err == nil {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(retryPause):
		return true
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// subscriptions keeps the bus subscribed to a set of topics.
type subscriptions struct {
	bus    Bus
	inbox  *inbox
	active map[string]func()
}

// set makes topics the whole set.
func (s *subscriptions) set(topics map[string]bool) error {
	for topic, end := range s.active {
		if !topics[topic] {
			end()
			delete(s.active, topic)
		}
	}
	for topic := range topics {
		if s.active[topic] != nil {
			continue
		}
		end, err := s.bus.Subscribe(topic, s.inbox.message)
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", topic, err)
		}
		s.active[topic] = end
	}
	return nil
}

// rules is the last set that the source gave.
type rules struct {
	rules    []*rule.Rule
	problems []twin.Problem
}
