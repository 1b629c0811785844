package mapper

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrRunning is returned by Start of a running Mapper.
var ErrRunning = errors.New("already running")

// lifecycle gives a Mapper Start, Stop, Done and Err.
type lifecycle struct {
	mu  sync.Mutex
	cur *life
}

type life struct {
	cancel      context.CancelFunc
	ready, done chan struct{}
	err         error // valid once done is closed
}

// Start brings the mapper up and returns when it follows its Source and
// answers commands, or with the reason why it cannot. Devices are served as
// soon as the Source knows them. ctx bounds the start only. Starting a
// running mapper is ErrRunning; a stopped one may be started again.
func (m *Mapper) Start(ctx context.Context) error {
	l, err := m.launch(ctx)
	if err != nil {
		return err
	}
	select {
	case <-l.ready:
		return nil
	case <-l.done:
	case <-ctx.Done():
		l.cancel()
		<-l.done
		return fmt.Errorf("start %s: %w", m.cfg.Name, context.Cause(ctx))
	}
	select {
	case <-l.ready: // ready and ended at once: Done and Err tell
		return nil
	default:
	}
	if l.err != nil {
		return fmt.Errorf("start %s: %w", m.cfg.Name, l.err)
	}
	return fmt.Errorf("start %s: %w", m.cfg.Name, context.Canceled)
}

func (m *Mapper) launch(ctx context.Context) (*life, error) {
	m.life.mu.Lock()
	defer m.life.mu.Unlock()
	if m.life.cur != nil {
		select {
		case <-m.life.cur.done:
		default:
			return nil, fmt.Errorf("start %s: %w", m.cfg.Name, ErrRunning)
		}
	}
	body, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &life{cancel: cancel, ready: make(chan struct{}), done: make(chan struct{})}
	m.life.cur = l
	go func() {
		defer close(l.done)
		defer cancel()
		if err := m.serve(body, sync.OnceFunc(func() { close(l.ready) })); body.Err() == nil {
			l.err = err
		}
	}()
	return l, nil
}

// Stop ends the mapper: devices are closed, what is queued for the broker is
// sent for up to 2 s, and every goroutine has ended when it returns. With a
// driver that keeps its contract (Read returns soon after its context ends)
// that takes at most 5 s, and milliseconds while the broker is there. It is safe before Start, twice and concurrently.
func (m *Mapper) Stop() {
	if l := m.current(); l != nil {
		l.cancel()
		<-l.done
	}
}

// Done is closed when the current run has ended; nil before the first Start.
func (m *Mapper) Done() <-chan struct{} {
	if l := m.current(); l != nil {
		return l.done
	}
	return nil
}

// Err is why the last run ended by itself; nil while it runs and after Stop.
func (m *Mapper) Err() error {
	l := m.current()
	if l == nil {
		return nil
	}
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}

func (m *Mapper) current() *life {
	m.life.mu.Lock()
	defer m.life.mu.Unlock()
	return m.life.cur
}
