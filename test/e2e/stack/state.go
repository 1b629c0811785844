package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// stateFile is the name of the state below the run folder.
const stateFile = "stack.json"

// state is what a run folder remembers between processes.
type state struct {
	// Up is true from the end of a successful Up to the start of Down.
	Up    bool  `json:"up"`
	Ports Ports `json:"ports"`
	// Sysctls are the kernel settings as they were before Up.
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

// readState returns the zero state and os.ErrNotExist when there is none.
func (s *Stack) readState() (state, error) {
	var st state
	data, err := os.ReadFile(s.path(stateFile))
	if err != nil {
		return st, fmt.Errorf("read stack state: %w", err)
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("parse stack state %s: %w", s.path(stateFile), err)
	}
	return st, nil
}

func (s *Stack) writeState(st state) error {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("encode stack state: %w", err)
	}
	return writeFile(s.path(stateFile), append(data, '\n'), 0o644)
}

// writeFile replaces a file atomically, making its folder if needed.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder of %s: %w", path, err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// lockFile takes an exclusive lock on path and returns its release. It waits
// until ctx ends, calling waiting once if the lock is held by another.
func lockFile(ctx context.Context, path string, waiting func()) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of lock %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	for first := true; ; first = false {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// lock keeps other processes from changing the run folder. The lock file lies
// beside the folder, because Up erases the folder's contents.
func (s *Stack) lock(ctx context.Context) (func(), error) {
	return lockFile(ctx, s.Dir+".lock", func() {
		s.progress.say("waiting for another process that works on %s", s.Dir)
	})
}

// ensureOurs refuses a run folder that holds something and is not of a stack,
// because Up erases its contents.
func (s *Stack) ensureOurs() error {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list run folder: %w", err)
	}
	if _, err := os.Stat(s.path(stateFile)); err != nil {
		return fmt.Errorf("run folder %s: not empty and not of a stack, so it is not erased: %w", s.Dir, err)
	}
	return nil
}

// clearDir makes a folder and removes what it holds, except the named entries.
func clearDir(dir string, keep ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		if slices.Contains(keep, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clear %s: %w", dir, err)
		}
	}
	return nil
}
