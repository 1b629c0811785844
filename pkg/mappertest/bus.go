package mappertest

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Message is one message a Bus has taken.
type Message struct {
	Topic   string
	Payload []byte
}

// Bus is an MQTT broker in memory that implements mapper.Bus. A message is
// delivered to every subscription that matches before Publish returns. The zero
// Bus is ready to use. It keeps every message: it is for tests.
type Bus struct {
	// PublishFn, if set, decides on every Publish before the broker sees it: an
	// error is returned to the publisher, and the message is lost. Set it before use.
	PublishFn func(ctx context.Context, topic string, payload []byte) error

	mu     sync.Mutex
	taken  []Message
	subs   []*subscription
	outage chan struct{} // not nil during an outage; closed when it is over
	deaf   bool          // takes messages and does not confirm them
}

type subscription struct {
	filter string
	mu     sync.Mutex // one message at a time
	handle func(topic string, payload []byte)
	ended  bool
}

// Publish implements mapper.Bus.
func (b *Bus) Publish(ctx context.Context, topic string, payload []byte) error {
	if b.PublishFn != nil {
		if err := b.PublishFn(ctx, topic, payload); err != nil {
			return err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.mu.Lock()
		outage, deaf := b.outage, b.deaf
		var subs []*subscription
		if outage == nil || deaf {
			payload = slices.Clone(payload)
			b.taken = append(b.taken, Message{topic, payload})
			subs = slices.Clone(b.subs)
		}
		b.mu.Unlock()
		for _, s := range subs {
			if Matches(s.filter, topic) {
				s.deliver(topic, payload)
			}
		}
		if outage == nil {
			return nil
		}
		select { // as a client does: it waits, and sends again after the reconnect
		case <-outage:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *subscription) deliver(topic string, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.handle(topic, payload)
	}
}

// Subscribe implements mapper.Bus.
func (b *Bus) Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error) {
	s := &subscription{filter: filter, handle: handle}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, s)
	return func() {
		b.mu.Lock()
		b.subs = slices.DeleteFunc(b.subs, func(x *subscription) bool { return x == s })
		b.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = true
	}, nil
}

// Break begins an outage: Publish waits until Mend or the end of its context.
func (b *Bus) Break() { b.breakIt(false) }

// BreakConfirms begins an outage in which the broker still takes and delivers
// messages, and the confirmations are lost: what is sent during it is sent again after Mend.
func (b *Bus) BreakConfirms() { b.breakIt(true) }

func (b *Bus) breakIt(deaf bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf = deaf
	if b.outage == nil {
		b.outage = make(chan struct{})
	}
}

// Mend ends an outage.
func (b *Bus) Mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outage != nil {
		close(b.outage)
		b.outage, b.deaf = nil, false
	}
}

// Messages returns what was published on topics that match filter, in order.
func (b *Bus) Messages(filter string) []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Message
	for _, m := range b.taken {
		if Matches(filter, m.Topic) {
			out = append(out, m)
		}
	}
	return out
}

// Matches reports whether an MQTT filter matches a topic.
func Matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, part := range f {
		if part == "#" {
			return true
		}
		if i >= len(t) || (part != "+" && part != t[i]) {
			return false
		}
	}
	return len(f) == len(t)
}
