package stack

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Health is the state of one component. A nil Err means that it serves.
type Health struct {
	Component Component
	PID       int
	Err       error
}

// Status probes all components, each within 5 s, and returns them in start
// order.
func (s *Stack) Status(ctx context.Context) []Health {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all := Components()
	if s.opts.DatabaseOnly {
		all = []Component{Database}
	}
	out := make([]Health, len(all))
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() { out[i] = s.health(ctx, c) })
	}
	group.Wait()
	return out
}

func (s *Stack) health(ctx context.Context, c Component) Health {
	h := Health{Component: c}
	p, err := s.readProcess(c)
	if err != nil {
		h.Err = err
		return h
	}
	if !p.alive() {
		h.Err = errors.New("does not run")
		return h
	}
	h.PID = p.PID
	l, err := s.launch(c)
	if err != nil {
		h.Err = err
		return h
	}
	h.Err = l.ready(ctx)
	return h
}

// healthy reports whether every component serves and the edge node is Ready. A
// component that does not is named in the output.
func (s *Stack) healthy(ctx context.Context) bool {
	ok := true
	for _, h := range s.Status(ctx) {
		if h.Err != nil {
			s.progress.say("%s: %v", h.Component, h.Err)
			ok = false
		}
	}
	if !ok || s.opts.DatabaseOnly {
		return ok
	}
	if err := s.nodeReady(ctx); err != nil {
		s.progress.say("%v", err)
		return false
	}
	return true
}
