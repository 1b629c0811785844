package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// killPods ends the processes of pods that containerd no longer manages, as
// after its own violent end. containerd keeps no pid of a shim, so processes
// are asked: ours are those that were told our containerd's socket as -address,
// their descendants, and all in our cgroup.
func (s *Stack) killPods(ctx context.Context) error {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	var ours []process
	for _, e := range entries {
		pid, err := strconv.Atoi(filepath.Base(e))
		if err != nil || !s.ownsPodProcess(pid) {
			continue
		}
		if p, err := identify(pid); err == nil {
			ours = append(ours, p.family()...)
		}
	}
	var errs []error
	for _, p := range ours {
		errs = append(errs, p.signal(syscall.SIGKILL))
	}
	for _, p := range ours {
		if !p.gone(ctx, killWait) {
			errs = append(errs, fmt.Errorf("kill pod process %d: it still runs", p.PID))
		}
	}
	errs = append(errs, s.removeShimSockets())
	return errors.Join(errs...)
}

// removeShimSockets removes the sockets of killed shims. They lie outside the
// run folder; each bundle of containerd names its own.
func (s *Stack) removeShimSockets() error {
	files, err := filepath.Glob(s.path("containerd", "state", "io.containerd.runtime.v2.task", ctrNamespace, "*", "address"))
	if err != nil {
		return fmt.Errorf("list shim sockets: %w", err)
	}
	for _, file := range files {
		data, readErr := os.ReadFile(file)
		if readErr != nil {
			continue
		}
		socket, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "unix:///run/containerd/s/")
		if !ok {
			continue
		}
		removeErr := os.Remove("/run/containerd/s/" + filepath.Base(socket))
		if removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove shim socket: %w", removeErr))
		}
	}
	return err
}

// ownsPodProcess reports whether a process belongs to a pod of this stack.
func (s *Stack) ownsPodProcess(pid int) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	for i := range args[1:] {
		if args[i] == "-address" && args[i+1] == s.containerdSocket() {
			return true
		}
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(groups), ":/"+s.id+"/")
}
