package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process identifies a started process beyond its pid: a pid alone may have
// been given to a stranger since. The zero value is no process.
type process struct {
	PID int `json:"pid"`
	// Start is the start time in clock ticks after boot.
	Start uint64 `json:"start"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot"`
}

// bootID is where the kernel tells boots apart.
const bootID = "/proc/sys/kernel/random/boot_id"

// identify reads what identifies pid now.
func identify(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	st, err := parseStat(stat)
	if err != nil {
		return process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return process{PID: pid, Start: st.start, Boot: strings.TrimSpace(string(boot))}, nil
}

// procStat is the part of /proc/PID/stat that is used here.
type procStat struct {
	state  byte
	parent int
	start  uint64
}

// parseStat reads /proc/PID/stat. The command in it may hold spaces and
// parentheses, so the fields are counted from the last closing one.
func parseStat(data []byte) (procStat, error) {
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return procStat{}, errors.New("stat has no command")
	}
	fields := strings.Fields(string(data[i+1:]))
	if len(fields) < 20 {
		return procStat{}, fmt.Errorf("stat has %d fields after the command, want 20", len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return procStat{}, fmt.Errorf("stat parent: %w", err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("stat start time: %w", err)
	}
	return procStat{state: fields[0][0], parent: parent, start: start}, nil
}

// alive reports whether the very process that was recorded still runs. It reaps
// a dead child of this process.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	// Reaping fails with ECHILD when another process started it; that is fine.
	_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil)
	now, err := identify(p.PID)
	if err != nil || now != p {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false
	}
	st, err := parseStat(stat)
	if err != nil || st.state == 'X' {
		return false
	}
	return st.state != 'Z' || p.hasThreads()
}

// hasThreads reports whether a zombie still has threads that are about to end.
// Until they have, its sockets and files stay open.
func (p process) hasThreads() bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID))
	return err == nil && len(tasks) > 1
}

// family returns the process and its descendants, parents first. It is empty
// when the process is gone.
func (p process) family() []process {
	if !p.alive() {
		return nil
	}
	children := map[int][]int{}
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return []process{p}
	}
	for _, e := range entries {
		data, err := os.ReadFile(e)
		if err != nil {
			continue
		}
		st, err := parseStat(data)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e)))
		if err != nil {
			continue
		}
		children[st.parent] = append(children[st.parent], pid)
	}
	out := []process{p}
	for i := 0; i < len(out); i++ {
		for _, pid := range children[out[i].PID] {
			if c, err := identify(pid); err == nil {
				out = append(out, c)
			}
		}
	}
	return out
}

// signal sends sig to the process if it is still the recorded one.
func (p process) signal(sig syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// signalFamily sends sig to the process and all its descendants.
func (p process) signalFamily(sig syscall.Signal) error {
	var errs []error
	for _, member := range p.family() {
		errs = append(errs, member.signal(sig))
	}
	return errors.Join(errs...)
}

// stop asks the process to end, waits, and kills what is left of its family.
func (p process) stop(ctx context.Context, ask syscall.Signal, within time.Duration) error {
	family := p.family()
	// A frozen process does not act on it before it goes on.
	err := errors.Join(p.signal(ask), p.signalFamily(syscall.SIGCONT))
	if err != nil {
		return err
	}
	if p.gone(ctx, within) {
		family = family[min(1, len(family)):]
	}
	for _, member := range family {
		err = errors.Join(err, member.signal(syscall.SIGKILL))
	}
	for _, member := range family {
		if !member.gone(ctx, killWait) {
			err = errors.Join(err, fmt.Errorf("process %d: alive 10 s after SIGKILL", member.PID))
		}
	}
	return err
}

// gone waits until the process has ended and reports whether it has.
func (p process) gone(ctx context.Context, within time.Duration) bool {
	deadline := time.Now().Add(within)
	for p.alive() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return !p.alive()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// spawn starts a component in a session of its own and records it. Its output
// goes to the component's log file, so it outlives this process.
func (s *Stack) spawn(c Component, l launch) (process, error) {
	if err := os.MkdirAll(s.path("log"), 0o755); err != nil {
		return process{}, fmt.Errorf("make log folder: %w", err)
	}
	if l.before != nil {
		if err := l.before(); err != nil {
			return process{}, fmt.Errorf("start %s: %w", c, err)
		}
	}
	log, err := os.OpenFile(s.Log(c), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, fmt.Errorf("open log of %s: %w", c, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(l.argv[0], l.argv[1:]...) //nolint:noctx // it outlives every context of ours
	cmd.Env = append(os.Environ(), l.env...)
	cmd.Dir = l.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", c, err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", c, err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		return process{}, fmt.Errorf("record %s: %w", c, err)
	}
	return p, writeFile(s.pidFile(c), append(data, '\n'), 0o644)
}

func (s *Stack) pidFile(c Component) string { return s.path("pid", string(c)+".json") }

// readProcess returns the recorded process of c, or the zero value.
func (s *Stack) readProcess(c Component) (process, error) {
	var p process
	data, err := os.ReadFile(s.pidFile(c))
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read pid of %s: %w", c, err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("parse pid of %s: %w", c, err)
	}
	return p, nil
}

func (s *Stack) removeProcess(c Component) error {
	err := os.Remove(s.pidFile(c))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget pid of %s: %w", c, err)
	}
	return nil
}
