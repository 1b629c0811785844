package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Up brings the stack up and returns when everything serves and the edge node
// is Ready. A stack that runs and is healthy is left as it is. Anything else is
// taken down first, and the new stack starts empty: no objects, topics or rows.
// When Up fails, it takes down what it started and keeps the logs.
func (s *Stack) Up(ctx context.Context) error {
	if err := s.Build(ctx); err != nil {
		return err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.readState()
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	default:
		s.setPorts(st.Ports)
		if st.Up && s.healthy(ctx) {
			s.progress.say("the stack in %s is up already", s.Dir)
			return nil
		}
		if st.Up {
			s.progress.say("taking down what is left of the stack in %s", s.Dir)
		}
		if err := s.down(ctx); err != nil {
			return err
		}
	}
	return s.progress.step("stack up in "+s.Dir, func() error {
		err := s.bring(ctx)
		if err == nil {
			return nil
		}
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		return errors.Join(err, s.down(clean))
	})
}

// bring starts everything on a clean machine.
func (s *Stack) bring(ctx context.Context) error {
	if err := s.ensureOurs(); err != nil {
		return err
	}
	// The state goes last: a folder without it is not taken for ours.
	if err := clearDir(s.Dir, stateFile); err != nil {
		return err
	}
	ports, err := choosePorts(wantedPorts(), portBusy)
	if err != nil {
		return err
	}
	s.setPorts(ports)
	st := state{Ports: ports}
	bring := s.bringDatabase
	if !s.opts.DatabaseOnly {
		st.Sysctls, bring = readSysctls(), s.bringAll
	}
	if err := s.writeState(st); err != nil {
		return err
	}
	if err := bring(ctx); err != nil {
		return err
	}
	st.Up = true
	return s.writeState(st)
}

// bringAll starts every component.
func (s *Stack) bringAll(ctx context.Context) error {
	if err := writeSysctls(map[string]string{"net/ipv4/tcp_retries2": retries}); err != nil {
		return err
	}
	for _, prepare := range []func() error{
		s.writePKI, s.writeCloudCore, s.writeContainerd, s.writeMosquitto, s.makeCgroups,
	} {
		if err := prepare(); err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.bringKubeEdge(groupCtx) })
	group.Go(func() error { return s.bringKafka(groupCtx) })
	group.Go(func() error { return s.bringDatabase(groupCtx) })
	return group.Wait()
}

// bringKubeEdge starts the cluster and the edge node.
func (s *Stack) bringKubeEdge(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.bringCloud(groupCtx) })
	group.Go(func() error { return s.bringRuntime(groupCtx) })
	group.Go(func() error { return s.start(groupCtx, Mosquitto) })
	if err := group.Wait(); err != nil {
		return err
	}
	token, err := s.edgeToken(ctx)
	if err != nil {
		return err
	}
	if err := s.writeEdgeCore(token); err != nil {
		return err
	}
	if err := s.start(ctx, EdgeCore); err != nil {
		return err
	}
	return s.waitNode(ctx)
}

// bringCloud starts the control plane and CloudCore.
func (s *Stack) bringCloud(ctx context.Context) error {
	for _, c := range []Component{Etcd, APIServer} {
		if err := s.start(ctx, c); err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.start(groupCtx, Controllers) })
	group.Go(func() error { return s.start(groupCtx, Scheduler) })
	group.Go(func() error {
		if err := s.applyCluster(groupCtx); err != nil {
			return err
		}
		return s.start(groupCtx, CloudCore)
	})
	return group.Wait()
}

// bringRuntime starts containerd with the pause image in it.
func (s *Stack) bringRuntime(ctx context.Context) error {
	if err := s.start(ctx, Containerd); err != nil {
		return err
	}
	return s.Image(ctx, filepath.Join(s.cache.dir(pauseArtifact()), "pause"), pauseRef)
}

func (s *Stack) bringKafka(ctx context.Context) error {
	err := s.progress.step("formatting kafka", func() error { return s.formatKafka(ctx) })
	if err != nil {
		return err
	}
	return s.start(ctx, Kafka)
}

func (s *Stack) bringDatabase(ctx context.Context) error {
	err := s.progress.step("initialising timescaledb", func() error { return s.initDatabase(ctx) })
	if err != nil {
		return err
	}
	if err := s.start(ctx, Database); err != nil {
		return err
	}
	return s.createMainDatabase(ctx)
}

// Down stops everything and removes what the stack made outside its folder. A
// stack that does not run is fine. Logs and data stay until the next Up.
func (s *Stack) Down(ctx context.Context) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.progress.step("stack down in "+s.Dir, func() error { return s.down(ctx) })
}

func (s *Stack) down(ctx context.Context) error {
	st, err := s.readState()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.setPorts(st.Ports)
	st.Up = false
	if s.opts.DatabaseOnly {
		return errors.Join(s.writeState(st), s.stop(ctx, Database))
	}
	errs := []error{s.writeState(st), s.HealLink(ctx)}
	errs = append(errs, s.stop(ctx, EdgeCore), s.removePods(ctx))
	errs = append(errs, s.stopTogether(ctx, Containerd, CloudCore, Scheduler, Controllers, Mosquitto, Kafka, Database))
	errs = append(errs, s.stop(ctx, APIServer), s.stop(ctx, Etcd))
	errs = append(errs,
		s.unmountAll(), s.removeCgroups(), s.removeBridge(ctx), s.removeLogLinks(), writeSysctls(st.Sysctls))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take down stack: %w", err)
	}
	return nil
}

// stopTogether stops components at the same time and waits for all.
func (s *Stack) stopTogether(ctx context.Context, all ...Component) error {
	var group errgroup.Group
	for _, c := range all {
		group.Go(func() error { return s.stop(ctx, c) })
	}
	return group.Wait()
}
