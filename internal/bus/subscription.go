package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxSubscriptions bounds the subscriptions of one Client.
const MaxSubscriptions = 8192

// subscribeWait bounds how long Subscribe waits for the broker to confirm.
const subscribeWait = 5 * time.Second

// subscription is one handler of one filter.
type subscription struct {
	filter string
	handle func(topic string, payload []byte)
	queue  *queue
	gone   chan struct{} // closed by unsubscribe

	made  chan struct{} // closed once the broker has answered or cannot
	once  sync.Once     // closes made
	dirty bool          // SUBSCRIBE is still to be sent; Client.mu
}

func (s *subscription) confirm() { s.once.Do(func() { close(s.made) }) }

// deliver runs the handler for what is queued, until ctx or the subscription ends.
func (s *subscription) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.gone:
			return
		case <-s.queue.wake:
		}
		for ctx.Err() == nil && !closed(s.gone) {
			d, ok := s.queue.pop()
			if !ok {
				break
			}
			s.handle(d.topic, d.payload)
			if d.done != nil {
				d.done()
			}
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// table holds the subscriptions by filter. Client.mu guards it.
type table struct {
	exact map[string][]*subscription // filters without wildcards
	wild  map[string][]*subscription
	gone  map[string]struct{} // filters that the broker is to be told to forget
	count int
}

func newTable() table {
	return table{exact: map[string][]*subscription{}, wild: map[string][]*subscription{}, gone: map[string]struct{}{}}
}

func (t *table) of(filter string) map[string][]*subscription {
	if strings.ContainsAny(filter, "+#") {
		return t.wild
	}
	return t.exact
}

func (t *table) add(s *subscription) {
	m := t.of(s.filter)
	m[s.filter] = append(slices.Clip(m[s.filter]), s)
	delete(t.gone, s.filter)
	t.count++
}

func (t *table) remove(s *subscription) {
	m := t.of(s.filter)
	rest := slices.DeleteFunc(slices.Clone(m[s.filter]), func(o *subscription) bool { return o == s })
	if len(rest) == len(m[s.filter]) {
		return
	}
	t.count--
	if m[s.filter] = rest; len(rest) == 0 {
		delete(m, s.filter)
		t.gone[s.filter] = struct{}{}
	}
}

// match returns the subscriptions that a message on topic goes to.
func (t *table) match(topic string) []*subscription {
	found := t.exact[topic]
	for filter, subs := range t.wild {
		if Match(filter, topic) {
			found = append(slices.Clip(found), subs...)
		}
	}
	return found
}

// each calls f for every subscription.
func (t *table) each(f func(*subscription)) {
	for _, m := range []map[string][]*subscription{t.exact, t.wild} {
		for _, subs := range m {
			for _, s := range subs {
				f(s)
			}
		}
	}
}

// Subscribe calls handle for every message that matches filter (QoS 1), one at
// a time and in the order of arrival, now and after every reconnect, until
// unsubscribe. It may be called before Start and while the broker is away. While
// connected it returns when the broker has confirmed, after subscribeWait at the latest.
// The error is ErrFilter for a filter that cannot be, or ErrTooMany. A
// filter that the broker refuses (its ACL) is logged and tried again at each connect.
//
// With a clean session handle may call Publish and Subscribe. It may keep payload and
// must not change it. While it runs, at most MaxQueued messages wait. With a
// clean session the oldest is then dropped and counted. With a persistent one nothing
// more is read from the broker, confirmations included: such a handler must not
// call Publish or Subscribe itself. If it stalls so for 15 s the connection is given up, and
// the broker sends again what was not acknowledged.
//
// Two subscriptions that match one message both get it; a broker may then
// send it twice. A second subscription to a filter brings its retained
// messages to the first one again.
//
// unsubscribe may be called more than once. It does not wait: a call of handle
// that is under way goes on.
func (c *Client) Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error) {
	if err := CheckFilter(filter); err != nil {
		return nil, fmt.Errorf("subscribe: %w: %w", ErrFilter, err)
	}
	s := &subscription{
		filter: filter, handle: handle, queue: newQueue(), dirty: true,
		gone: make(chan struct{}), made: make(chan struct{}),
	}
	c.mu.Lock()
	if c.table.count >= MaxSubscriptions {
		c.mu.Unlock()
		return nil, fmt.Errorf("subscribe to %.80q: %w", filter, ErrTooMany)
	}
	c.table.add(s)
	if c.launch != nil {
		c.launch(s)
	}
	connected := c.conn != nil
	c.mu.Unlock()
	c.poke()
	if connected {
		timer := time.NewTimer(subscribeWait)
		defer timer.Stop()
		select {
		case <-s.made:
		case <-timer.C:
		}
	}
	return sync.OnceFunc(func() { c.unsubscribe(s) }), nil
}

func (c *Client) unsubscribe(s *subscription) {
	close(s.gone)
	c.mu.Lock()
	c.table.remove(s)
	c.mu.Unlock()
	s.queue.clear()
	c.poke()
}

// poke tells the run that the table has changed.
func (c *Client) poke() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// resubscribe brings the broker up to the table.
func (c *Client) resubscribe(ctx context.Context, n *conn) error {
	c.mu.Lock()
	var fresh []*subscription
	c.table.each(func(s *subscription) {
		if s.dirty {
			s.dirty = false
			fresh = append(fresh, s)
		}
	})
	gone := make([]string, 0, len(c.table.gone))
	for f := range c.table.gone {
		gone = append(gone, f)
	}
	clear(c.table.gone)
	c.mu.Unlock()
	if err := n.unsubscribe(ctx, gone); err != nil {
		return err
	}
	filters := make([]string, 0, len(fresh))
	for _, s := range fresh {
		filters = append(filters, s.filter)
	}
	slices.Sort(filters)
	filters = slices.Compact(filters)
	refused, err := n.subscribe(ctx, filters)
	if err != nil {
		return err
	}
	c.noteRefused(filters, refused)
	for _, s := range fresh {
		s.confirm()
	}
	return nil
}

// noteRefused keeps which filters the broker refuses and logs the new ones.
func (c *Client) noteRefused(asked, refused []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range asked {
		is := slices.Contains(refused, f)
		if _, was := c.refused[f]; is && !was {
			c.refused[f] = struct{}{}
			c.log.Warn("broker refuses a subscription; is its access list right?", "filter", f)
		} else if !is {
			delete(c.refused, f)
		}
	}
}
