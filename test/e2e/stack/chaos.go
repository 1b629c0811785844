package stack

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Start runs a component that was stopped or killed, and waits until it serves.
// One that runs is left alone.
func (s *Stack) Start(ctx context.Context, c Component) error { return s.start(ctx, c) }

// Stop ends a component in an orderly way and waits for its end.
func (s *Stack) Stop(ctx context.Context, c Component) error { return s.stop(ctx, c) }

// Restart ends a component in an orderly way, starts it and waits until it
// serves. Its data stays. Pods outlive restarts of EdgeCore and containerd.
func (s *Stack) Restart(ctx context.Context, c Component) error {
	if err := s.stop(ctx, c); err != nil {
		return err
	}
	return s.start(ctx, c)
}

// Kill9 kills a component and its descendants with SIGKILL and waits for their
// end. Start brings it back. Pods are not descendants of containerd.
func (s *Stack) Kill9(ctx context.Context, c Component) error {
	p, err := s.readProcess(c)
	if err != nil {
		return err
	}
	family := p.family()
	if len(family) == 0 {
		return fmt.Errorf("kill %s: it does not run", c)
	}
	for _, member := range family {
		err = errors.Join(err, member.signal(syscall.SIGKILL))
	}
	for _, member := range family {
		if !member.gone(ctx, killWait) {
			err = errors.Join(err, fmt.Errorf("kill %s: process %d still runs", c, member.PID))
		}
	}
	return errors.Join(err, s.removeProcess(c))
}

// Pause freezes a component and its descendants with SIGSTOP. Connections to it
// stay open and nothing answers.
func (s *Stack) Pause(c Component) error { return s.signalAll(c, syscall.SIGSTOP) }

// Resume ends Pause.
func (s *Stack) Resume(c Component) error { return s.signalAll(c, syscall.SIGCONT) }

func (s *Stack) signalAll(c Component, sig syscall.Signal) error {
	p, err := s.readProcess(c)
	if err != nil {
		return err
	}
	if !p.alive() {
		return fmt.Errorf("send %s to %s: it does not run", sig, c)
	}
	return p.signalFamily(sig)
}
