// Package bus is the node's MQTT broker as Twinline uses it: publish until the
// broker has it, subscriptions that outlive connections, nothing that blocks the
// delivery of anything else. It wraps paho.mqtt.golang; see DESIGN.md.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/twinline/twinline/internal/service"
)

// Bounds of a Client.
const (
	MaxInFlight = 128     // messages published and not yet confirmed
	MaxPayload  = 4 << 20 // bytes; the largest message of Twinline is a batch of 1 MiB samples

	minBackoff = 250 * time.Millisecond
	maxBackoff = 5 * time.Second  // a broker that comes back is used within this
	stableTime = 10 * time.Second // a connection that held so long starts the backoff anew
	maxStall   = 15 * time.Second // a handler that makes a persistent session wait for longer loses the connection, before pings go unread
)

// Errors that callers decide on.
var (
	ErrTopic   = errors.New("not a topic to publish to")
	ErrPayload = errors.New("payload is too large")
	ErrFilter  = errors.New("not a topic filter")
	ErrTooMany = errors.New("too many subscriptions")
)

// Client is a connection to the broker that comes back by itself. All methods
// may be called from any goroutine, before Start and after Stop too. As a
// service: Start fails for a wrong Config only and does not wait for the
// broker. Stop takes as long as the handler calls that are under way, and half a
// second; what is queued for handlers is dropped. Subscriptions are kept for the next Start.
type Client struct {
	*service.Runner
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	window  chan struct{} // a token for each message in flight
	changed chan struct{} // a token when the table has changed
	stall   time.Duration // maxStall, but in tests

	mu      sync.Mutex
	conn    *conn         // nil while there is none
	up      chan struct{} // closed when conn is set, remade when it is cleared
	table   table
	refused map[string]struct{} // filters
	hooks   []func()
	launch  func(*subscription) // starts delivery; nil while the service is stopped
}

// New returns a Client; Start connects it.
func New(cfg Config) *Client {
	c := &Client{
		cfg:     cfg,
		log:     cfg.Log,
		window:  make(chan struct{}, MaxInFlight),
		changed: make(chan struct{}, 1),
		stall:   maxStall,
		up:      make(chan struct{}),
		table:   newTable(),
		refused: map[string]struct{}{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.metrics = newMetrics(c, cfg.Registry)
	c.Runner = service.New("bus", c.run)
	return c
}

// Publish sends with QoS 1 and returns nil when the broker has confirmed. While
// the broker is away it waits; a message that is in flight when the connection
// breaks is sent again, so a subscriber may see it twice. With an error of ctx
// the message may or may not have reached the broker; it returns within
// writeTimeout of the end of ctx. ErrTopic and ErrPayload come at once. Two calls
// one after the other keep their order, concurrent ones have none. At most
// MaxInFlight messages are in flight; further calls wait.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte) error {
	return c.publish(ctx, topic, payload, false)
}

// PublishRetained is Publish of a message that the broker keeps for later
// subscribers. An empty payload takes it back.
func (c *Client) PublishRetained(ctx context.Context, topic string, payload []byte) error {
	return c.publish(ctx, topic, payload, true)
}

func (c *Client) publish(ctx context.Context, topic string, payload []byte, retained bool) error {
	if err := CheckTopic(topic); err != nil {
		return fmt.Errorf("publish: %w: %w", ErrTopic, err)
	}
	if len(payload) > MaxPayload {
		return fmt.Errorf("publish to %.80q: %w: %d bytes, at most %d are allowed", topic, ErrPayload, len(payload), MaxPayload)
	}
	for attempt := 0; ; attempt++ {
		n, err := c.admit(ctx)
		if err == nil {
			err = n.publish(ctx, topic, retained, payload, func() { <-c.window })
		}
		if err == nil {
			c.metrics.published.Add(1)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("publish to %.80q: %w", topic, context.Cause(ctx))
		}
		c.metrics.republished.Add(1)
	}
}

// admit waits for a connection and a place in the window.
func (c *Client) admit(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		up := c.up
		c.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case c.window <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c.mu.Lock()
		n := c.conn
		c.mu.Unlock()
		if n != nil && !closed(n.lost) {
			return n, nil
		}
		<-c.window
		if n != nil { // the run is about to clear it
			select {
			case <-n.cleared:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// Connected reports whether the broker is connected and all subscriptions are made.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil && !closed(c.conn.lost)
}

// OnConnect has hook called after each connect, when all subscriptions have
// been made. Connects that follow each other quickly may be told as one. Calls do not
// overlap; hook may use the Client but should return soon, as the next hook waits.
// Call it before Start: a connect that has happened is not told.
func (c *Client) OnConnect(hook func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hooks = append(c.hooks, hook)
}

// Stats are counts since New.
type Stats struct {
	Connected   bool
	Connects    uint64
	InFlight    int
	Published   uint64            // confirmed by the broker
	Republished uint64            // sends repeated because a connection broke
	Received    uint64            // messages from the broker
	Unmatched   uint64            // of these, for no subscription
	Dropped     map[string]uint64 // by filter: the handler was too slow
	Refused     []string          // filters that the broker does not allow
}

// Stats returns the counts.
func (c *Client) Stats() Stats {
	s := c.metrics.stats()
	s.Connected = c.Connected()
	s.InFlight = len(c.window)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Refused = slices.Sorted(maps.Keys(c.refused))
	return s
}

// run is the body of the service.
func (c *Client) run(ctx context.Context, ready func()) error {
	if err := c.cfg.Validate(); err != nil {
		return err
	}
	var owned sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	connected := make(chan struct{}, 1)
	owned.Go(func() { c.callHooks(ctx, connected) })
	c.mu.Lock()
	c.launch = func(s *subscription) { owned.Go(func() { s.deliver(ctx) }) }
	c.table.each(c.launch)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.launch = nil
		c.mu.Unlock()
		cancel()
		owned.Wait()
		c.clearQueues()
	}()
	ready()
	c.connectForever(ctx, connected)
	return nil
}

// clearQueues drops what waits for handlers.
func (c *Client) clearQueues() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table.each(func(s *subscription) { s.queue.clear() })
}

func (c *Client) callHooks(ctx context.Context, connected <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-connected:
		}
		c.mu.Lock()
		hooks := slices.Clone(c.hooks)
		c.mu.Unlock()
		for _, hook := range hooks {
			hook()
		}
	}
}

// connectForever keeps a connection until ctx ends.
func (c *Client) connectForever(ctx context.Context, connected chan<- struct{}) {
	log := c.log.With("broker", c.cfg.redacted())
	id := c.cfg.clientID()
	backoff, said := minBackoff, ""
	for ctx.Err() == nil {
		began := time.Now()
		n, err := dial(ctx, c.cfg, id, c.receive)
		if err == nil {
			said = ""
			err = c.serve(ctx, n, connected)
			n.close()
			if c.cfg.Persistent {
				c.clearQueues() // the broker sends all of it again
			}
			if ctx.Err() == nil {
				log.Warn("connection to the broker lost", "cause", err)
			}
			if time.Since(began) > stableTime {
				backoff = minBackoff
			}
		} else if ctx.Err() == nil && said != err.Error() {
			said = err.Error()
			log.Warn("broker cannot be reached; trying on", "cause", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// serve uses one connection until it or ctx ends.
func (c *Client) serve(ctx context.Context, n *conn, connected chan<- struct{}) error {
	c.mu.Lock()
	c.table.each(func(s *subscription) { s.dirty = true })
	c.mu.Unlock()
	if err := c.resubscribe(ctx, n); err != nil {
		return err
	}
	c.mu.Lock()
	c.conn = n
	close(c.up)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.conn = nil
		c.up = make(chan struct{})
		c.mu.Unlock()
		close(n.cleared)
	}()
	c.metrics.connects.Add(1)
	c.log.Info("connected to the broker", "broker", c.cfg.redacted())
	select {
	case connected <- struct{}{}:
	default:
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.lost:
			return n.why
		case <-c.changed:
			if err := c.resubscribe(ctx, n); err != nil {
				return err
			}
		}
	}
}

// receive takes one message from paho's only delivery goroutine. With a clean
// session it never blocks.
func (c *Client) receive(n *conn, m mqtt.Message) {
	c.metrics.received.Add(1)
	c.mu.Lock()
	subs := c.table.match(m.Topic())
	c.mu.Unlock()
	d := delivery{topic: m.Topic(), payload: m.Payload()}
	switch {
	case len(subs) == 0:
		c.metrics.unmatched.Add(1)
		m.Ack()
	case c.cfg.Persistent:
		left := new(atomic.Int64)
		left.Store(int64(len(subs)))
		d.done = func() {
			if left.Add(-1) == 0 {
				m.Ack()
			}
		}
		for _, s := range subs {
			c.hold(n, s, d)
		}
	default:
		for _, s := range subs {
			if dropped := s.queue.push(d); dropped > 0 {
				c.metrics.dropped(s.filter, dropped)
			}
		}
	}
}

// hold queues d, and while there is no room reads nothing further from the
// broker: Mosquitto does not keep to its window after a session is resumed. A message that is not
// queued in the end is not acknowledged, and comes again with the next connection.
func (c *Client) hold(n *conn, s *subscription, d delivery) {
	if s.queue.offer(d) {
		return
	}
	timer := time.NewTimer(c.stall)
	defer timer.Stop()
	for {
		select {
		case <-s.queue.room:
			if s.queue.offer(d) {
				return
			}
		case <-s.gone:
			d.done()
			return
		case <-n.lost:
			return
		case <-timer.C: // not lost: it is not acknowledged
			n.fail(fmt.Errorf("the handler of %.80q has not returned for %s: the broker is to send again", s.filter, c.stall))
			return
		}
	}
}
