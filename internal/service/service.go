// Package service holds the one contract by which every long-running part of
// Twinline is started and stopped, and the Runner that implements it.
package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Service is something that runs until it is stopped or fails.
type Service interface {
	// Start brings the service up and returns when it is ready, or with the
	// reason why it cannot be. ctx bounds the start only: a service that has
	// started goes on when ctx ends. Starting a running service is ErrRunning.
	// A stopped or failed service may be started again.
	Start(ctx context.Context) error

	// Stop ends the service and returns when every goroutine it owns has
	// ended. It is safe before Start, twice, and from several goroutines. A
	// Stop during Start ends the start. How long a stop takes is bounded by
	// each service and said in its documentation.
	Stop()

	// Done is closed when the current run has ended, by Stop or by itself. It
	// is nil before the first Start.
	Done() <-chan struct{}

	// Err is why the last run ended by itself; nil while it runs and after Stop.
	Err() error
}

// ErrRunning is returned by Start of a running service.
var ErrRunning = errors.New("already running")

// Func is the body of a service. It calls ready once it is ready to serve,
// returns soon after ctx is done, and waits for every goroutine it started.
type Func func(ctx context.Context, ready func()) error

// Runner makes a Service of a Func. Parts embed it.
type Runner struct {
	name string
	body Func

	mu  sync.Mutex
	cur *run
}

type run struct {
	cancel context.CancelFunc
	ready  chan struct{}
	done   chan struct{}
	err    error // valid once done is closed
}

var _ Service = (*Runner)(nil)

// New returns a Runner; name is used in its errors.
func New(name string, body Func) *Runner { return &Runner{name: name, body: body} }

// Start implements Service.
func (r *Runner) Start(ctx context.Context) error {
	cur, err := r.launch(ctx)
	if err != nil {
		return err
	}
	select {
	case <-cur.ready:
		return nil
	case <-cur.done:
	case <-ctx.Done():
		cur.cancel()
		<-cur.done
		return fmt.Errorf("start %s: %w", r.name, context.Cause(ctx))
	}
	select {
	case <-cur.ready: // ready and ended at once: Done and Err tell
		return nil
	default:
	}
	if cur.err != nil {
		return fmt.Errorf("start %s: %w", r.name, cur.err)
	}
	return fmt.Errorf("start %s: %w", r.name, context.Canceled)
}

func (r *Runner) launch(ctx context.Context) (*run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur != nil {
		select {
		case <-r.cur.done:
		default:
			return nil, fmt.Errorf("start %s: %w", r.name, ErrRunning)
		}
	}
	bodyCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cur := &run{cancel: cancel, ready: make(chan struct{}), done: make(chan struct{})}
	r.cur = cur
	go func() {
		defer close(cur.done)
		defer cancel()
		err := r.body(bodyCtx, sync.OnceFunc(func() { close(cur.ready) }))
		if bodyCtx.Err() == nil {
			cur.err = err
		}
	}()
	return cur, nil
}

// Stop implements Service.
func (r *Runner) Stop() {
	r.mu.Lock()
	cur := r.cur
	r.mu.Unlock()
	if cur == nil {
		return
	}
	cur.cancel()
	<-cur.done
}

// Done implements Service.
func (r *Runner) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur == nil {
		return nil
	}
	return r.cur.done
}

// Err implements Service.
func (r *Runner) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur == nil {
		return nil
	}
	select {
	case <-r.cur.done:
		return r.cur.err
	default:
		return nil
	}
}
