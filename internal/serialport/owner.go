package serialport

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// BusyError is the error of an Open whose port somebody else has.
type BusyError struct {
	Path    string
	PID     int    // 0: it cannot be seen, such as a process of another container
	Command string // its name as in ps -o comm, empty if it cannot be read
}

// Error implements error.
func (e *BusyError) Error() string {
	switch {
	case e.PID == 0:
		return fmt.Sprintf("open serial port %s: held by a process that cannot be seen from here, such as one of another container or user; stop it or give it another port", e.Path)
	case e.PID == os.Getpid():
		return fmt.Sprintf("open serial port %s: this process has it open already; use one connection for all that is on the line", e.Path)
	case e.Command == "":
		return fmt.Sprintf("open serial port %s: held by process %d; stop it or give it another port", e.Path, e.PID)
	}
	return fmt.Sprintf("open serial port %s: held by process %d (%s); stop it or give it another port", e.Path, e.PID, e.Command)
}

// busy finds who holds the device.
func busy(path, device string) *BusyError {
	return busyWith(path, owner("/proc", device, true))
}

func busyWith(path string, pid int) *BusyError {
	e := &BusyError{Path: path, PID: pid}
	if e.PID != 0 {
		e.Command = command(e.PID)
	}
	return e
}

func command(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // it may be gone
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(comm))
}

// owner looks through proc for the process that has the device open, 0 if none can
// be seen. One that has a lock on it goes before one that has not: the other end of a pseudo
// terminal often keeps this end open as well. Another process goes before this one, which counts only with self.
func owner(proc, device string, self bool) int {
	want, err := os.Stat(device)
	if err != nil {
		return 0
	}
	found, rank := 0, 0
	entries, _ := os.ReadDir(proc) // none: nobody can be seen
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() && !self {
			continue
		}
		r := holds(filepath.Join(proc, entry.Name()), want)
		if r > 0 && pid != os.Getpid() {
			r++
		}
		if r > rank {
			found, rank = pid, r
		}
	}
	return found
}

// holds says how a process has the device: 0 not at all, 1 open, 3 locked.
func holds(process string, want os.FileInfo) int {
	rank := 0
	fds, _ := os.ReadDir(filepath.Join(process, "fd")) // of another user, or gone
	for _, fd := range fds {
		link := filepath.Join(process, "fd", fd.Name())
		// Only devices are looked at: stat of a file may hang where its server does.
		if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, "/dev/") {
			continue
		}
		if info, err := os.Stat(link); err != nil || !sameTTY(info, want) {
			continue
		}
		rank = max(rank, 1)
		if info, err := os.ReadFile(filepath.Join(process, "fdinfo", fd.Name())); err == nil && bytes.Contains(info, []byte("FLOCK")) {
			return 3
		}
	}
	return rank
}

// sameTTY compares devices, not names: a container may have another name for the same one.
func sameTTY(a, b os.FileInfo) bool {
	x, okA := a.Sys().(*syscall.Stat_t)
	y, okB := b.Sys().(*syscall.Stat_t)
	if !okA || !okB || a.Mode()&os.ModeCharDevice == 0 || x.Rdev != y.Rdev {
		return false
	}
	return !isPTY(x.Rdev) || x.Dev == y.Dev // each instance of devpts counts from 0
}

// isPTY tells the near ends of pseudo terminals (admin-guide/devices.txt of Linux: 136 to 143).
func isPTY(rdev uint64) bool {
	major := unix.Major(rdev)
	return major >= 136 && major <= 143
}

// lockDir is where programs that lock ports in the manner of UUCP put their files
// (Filesystem Hierarchy Standard 3.0, section 5.9).
const lockDir = "/var/lock"

// lockedBy reads the lock file of a device, 0 if there is none that holds. One
// whose process is gone, or does not have the device open, is left over.
func lockedBy(dir, device string) int {
	name := strings.ReplaceAll(strings.TrimPrefix(device, "/dev/"), "/", "_")
	text, err := os.ReadFile(filepath.Join(dir, "LCK.."+name))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || pid == os.Getpid() || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0
	}
	want, err := os.Stat(device)
	if err != nil {
		return 0
	}
	process := fmt.Sprintf("/proc/%d", pid)
	if _, err := os.ReadDir(filepath.Join(process, "fd")); err == nil && holds(process, want) == 0 {
		return 0
	}
	return pid
}
