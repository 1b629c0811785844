package service

import (
	"context"
	"errors"
)

// Group makes one service of several: they start in order, each when the one
// before is ready, and stop in reverse. When one ends by itself, all are stopped and
// the group ends with its error.
func Group(name string, members ...Service) *Runner {
	return New(name, func(ctx context.Context, ready func()) error {
		started := 0
		defer func() {
			for i := started - 1; i >= 0; i-- {
				members[i].Stop()
			}
		}()
		for _, m := range members {
			if err := m.Start(ctx); err != nil {
				return err
			}
			started++
		}
		ready()
		return firstEnd(ctx, members)
	})
}

// firstEnd returns when ctx is done or a member has ended.
func firstEnd(ctx context.Context, members []Service) error {
	ended := make(chan Service, len(members))
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	waiting := make(chan struct{}, len(members))
	for _, m := range members {
		go func() {
			defer func() { waiting <- struct{}{} }()
			select {
			case <-m.Done():
				ended <- m
			case <-watch.Done():
			}
		}()
	}
	var err error
	select {
	case m := <-ended:
		if err = m.Err(); err == nil {
			err = errors.New("a member ended without an error")
		}
	case <-ctx.Done():
	}
	cancel()
	for range members {
		<-waiting
	}
	return err
}
