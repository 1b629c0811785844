package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/twinline/twinline/internal/bus"
)

// Memory is a bus without a network. It keeps bus.Client's contract: Publish
// waits while it is down, one goroutine per subscription delivers in order. Its queues have no
// bound. Close it at the end of the test. It is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	up    chan struct{} // closed while the broker is "there"
	isUp  bool
	subs  []*memorySub
	hooks []func()
	wg    sync.WaitGroup
}

type memorySub struct {
	filter string
	handle func(string, []byte)
	wake   chan struct{}
	gone   chan struct{}
	queue  []message // Memory.mu
}

type message struct {
	topic   string
	payload []byte
}

// NewMemory returns a bus that is up.
func NewMemory() *Memory {
	m := &Memory{up: make(chan struct{}), isUp: true}
	close(m.up)
	return m
}

// Publish implements mapper.Bus.
func (m *Memory) Publish(ctx context.Context, topic string, payload []byte) error {
	if err := bus.CheckTopic(topic); err != nil {
		return fmt.Errorf("%w: %w", bus.ErrTopic, err)
	}
	for {
		m.mu.Lock()
		if m.isUp {
			for _, s := range m.subs {
				if bus.Match(s.filter, topic) {
					s.queue = append(s.queue, message{topic, slices.Clone(payload)})
					wake(s.wake)
				}
			}
			m.mu.Unlock()
			return nil
		}
		up := m.up
		m.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Subscribe implements mapper.Bus.
func (m *Memory) Subscribe(filter string, handle func(topic string, payload []byte)) (func(), error) {
	if err := bus.CheckFilter(filter); err != nil {
		return nil, fmt.Errorf("%w: %w", bus.ErrFilter, err)
	}
	s := &memorySub{filter: filter, handle: handle, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs = append(m.subs, s)
	m.wg.Go(func() { m.deliver(s) })
	return sync.OnceFunc(func() { m.remove(s) }), nil
}

// OnConnect has hook called by SetUp(true).
func (m *Memory) OnConnect(hook func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks = append(m.hooks, hook)
}

// Connected reports whether the bus is up.
func (m *Memory) Connected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isUp
}

// SetUp takes the broker away or brings it back. While it is away, what waits in
// queues is still delivered.
func (m *Memory) SetUp(up bool) {
	m.mu.Lock()
	if up == m.isUp {
		m.mu.Unlock()
		return
	}
	var hooks []func()
	if m.isUp = up; up {
		close(m.up)
		hooks = slices.Clone(m.hooks)
	} else {
		m.up = make(chan struct{})
	}
	m.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
}

// Close ends all deliveries and waits for them.
func (m *Memory) Close() {
	m.mu.Lock()
	subs := m.subs
	m.subs = nil
	m.mu.Unlock()
	for _, s := range subs {
		close(s.gone)
	}
	m.wg.Wait()
}

func (m *Memory) remove(s *memorySub) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.subs, s); i >= 0 {
		m.subs = slices.Delete(slices.Clone(m.subs), i, i+1)
		close(s.gone)
	}
}

func (m *Memory) deliver(s *memorySub) {
	for {
		select {
		case <-s.gone:
			return
		case <-s.wake:
		}
		for {
			m.mu.Lock()
			if len(s.queue) == 0 {
				m.mu.Unlock()
				break
			}
			next := s.queue[0]
			s.queue = s.queue[1:]
			m.mu.Unlock()
			select {
			case <-s.gone:
				return
			default:
			}
			s.handle(next.topic, next.payload)
		}
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
