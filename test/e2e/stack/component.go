package stack

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// Component names one process of the stack.
type Component string

// The components, in the order they depend on each other.
const (
	Etcd        Component = "etcd"
	APIServer   Component = "kube-apiserver"
	Controllers Component = "kube-controller-manager"
	Scheduler   Component = "kube-scheduler"
	Containerd  Component = "containerd"
	Mosquitto   Component = "mosquitto"
	Kafka       Component = "kafka"
	Database    Component = "timescaledb"
	CloudCore   Component = "cloudcore"
	EdgeCore    Component = "edgecore"
)

// Components returns all components in start order.
func Components() []Component {
	return []Component{
		Etcd, APIServer, Controllers, Scheduler, Containerd,
		Mosquitto, Kafka, Database, CloudCore, EdgeCore,
	}
}

// launch says how to run a component.
type launch struct {
	argv []string
	// env is added to the environment of this process.
	env []string
	dir string
	// before, if set, is called right before the process is made.
	before func() error
	// ready returns nil once the component serves.
	ready func(ctx context.Context) error
	// startWithin bounds the wait for ready.
	startWithin time.Duration
	// stopSignal asks for an orderly end; zero means SIGTERM.
	stopSignal syscall.Signal
	// stopWithin is the time between that signal and SIGKILL.
	stopWithin time.Duration
}

// launch returns how c is run with the present ports.
func (s *Stack) launch(c Component) (launch, error) {
	switch c {
	case Etcd:
		return s.etcd(), nil
	case APIServer:
		return s.apiServer(), nil
	case Controllers:
		return s.controllers(), nil
	case Scheduler:
		return s.scheduler(), nil
	case Containerd:
		return s.containerd(), nil
	case Mosquitto:
		return s.mosquitto(), nil
	case Kafka:
		return s.kafka()
	case Database:
		return s.database()
	case CloudCore:
		return s.cloudCore(), nil
	case EdgeCore:
		return s.edgeCore(), nil
	}
	return launch{}, fmt.Errorf("component %q: unknown", c)
}

// start runs c unless it runs already, and waits until it serves.
func (s *Stack) start(ctx context.Context, c Component) error {
	l, err := s.launch(c)
	if err != nil {
		return err
	}
	return s.progress.step("starting "+string(c), func() error {
		p, err := s.readProcess(c)
		if err != nil {
			return err
		}
		if !p.alive() {
			if p, err = s.spawn(c, l); err != nil {
				return err
			}
		}
		return s.waitReady(ctx, c, p, l)
	})
}

// stop ends c and its descendants: SIGTERM, then SIGKILL after stopWithin.
// A component that does not run is fine.
func (s *Stack) stop(ctx context.Context, c Component) error {
	p, err := s.readProcess(c)
	if err != nil {
		return err
	}
	l := launch{stopWithin: 10 * time.Second}
	if known, err := s.launch(c); err == nil {
		l = known
	}
	if l.stopSignal == 0 {
		l.stopSignal = syscall.SIGTERM
	}
	if err := p.stop(ctx, l.stopSignal, l.stopWithin); err != nil {
		return fmt.Errorf("stop %s: %w", c, err)
	}
	return s.removeProcess(c)
}
