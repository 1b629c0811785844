// Package serialport opens serial ports: go.bug.st/serial sets them up, Go's poller
// reads them. They have what net.Conn has: deadlines that other goroutines may set.
package serialport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// Port is an open serial port. Reads and writes may run at the same time, and
// the deadlines and Close are safe from any goroutine. It does not reopen: a Read
// or Write that fails with anything but os.ErrDeadlineExceeded is the port's end,
// and the owner closes it and opens it anew, with a pause of his own.
type Port struct {
	path  string
	file  *os.File        // reads and writes; has the lock
	raw   syscall.RawConn // of file
	port  serial.Port     // sets up; another descriptor of the same tty
	write atomic.Int64    // the deadline in nanoseconds since 1970; 0: none
	mu    sync.Mutex      // guards config, and makes changes go one after the other
	now   Config
	close sync.Once
	err   error // of Close
}

// Open opens a port. It does not wait, so ctx only spares an open that nobody wants.
// Path is followed each time: a link below /dev/serial/by-id leads to another tty after
// replugging. A port that somebody else has is a *BusyError.
func Open(ctx context.Context, c Config) (*Port, error) {
	what := "open serial port " + c.Path
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	mode, err := c.mode(what)
	if err != nil {
		return nil, err
	}
	device, err := filepath.EvalSymlinks(c.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if pid := lockedBy(lockDir, device); pid != 0 {
		return nil, busyWith(c.Path, pid)
	}
	file, err := openLocked(c.Path, device)
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), file.Close())
	}
	p := &Port{path: c.Path, file: file, raw: raw}
	if err := p.setUp(device, mode, c); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), p.Close())
	}
	return p, nil
}

// openLocked opens the tty and locks it (flock(2)), which holds against every
// program that asks, also against those of root, and ends with the process, however that ends.
func openLocked(path, device string) (*os.File, error) {
	// Not blocking: the open would wait for a carrier, and Reads would not be pollable.
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) { // somebody has it for himself: TIOCEXCL
		return nil, busy(path, device)
	}
	if err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", path, err)
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && exclusive(fd) {
		_ = unix.Close(fd) // nothing was written
		return nil, busy(path, device)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open serial port %s: lock it: %w", path, err)
	}
	if pseudo(fd) {
		return os.NewFile(uintptr(fd), path), nil
	}
	// Who has it open without a lock would take bytes that are ours.
	if pid := owner("/proc", device, false); pid != 0 {
		_ = unix.Close(fd)
		return nil, busyWith(path, pid)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// exclusive reports whether somebody has the tty for himself, which root is not told by
// open. A pseudo terminal keeps that mark when its holder is killed, so it says nothing there.
func exclusive(fd int) bool {
	on, err := unix.IoctlGetInt(fd, unix.TIOCGEXCL)
	return err == nil && on != 0 && !pseudo(fd)
}

// pseudo reports whether a descriptor is a pseudo terminal, whose far end often has this end open, too.
func pseudo(fd int) bool {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return err == nil && isPTY(st.Rdev)
}

// setUp makes a port of a locked file.
func (p *Port) setUp(device string, mode *serial.Mode, c Config) (err error) {
	if p.port, err = serial.Open(device, mode); err != nil {
		return err
	}
	if err := p.file.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("poll it: %w", err)
	}
	if err := p.apply(c); err != nil {
		return err
	}
	if err := p.port.ResetInputBuffer(); err != nil {
		return fmt.Errorf("empty its buffer: %w", err)
	}
	return nil
}

// apply completes what the mode says, and checks what can be.
func (p *Port) apply(c Config) error {
	if err := p.setSignals(c); err != nil {
		return err
	}
	_, err := p.control(func(fd int) (int, error) {
		return 0, errors.Join(setRS485(fd, c.RS485), checkBaud(fd, c.Baud))
	})
	if err != nil {
		return err
	}
	p.now = c
	return nil
}

// control runs do on the descriptor, which stays open meanwhile.
func (p *Port) control(do func(fd int) (int, error)) (n int, err error) {
	failed := p.raw.Control(func(fd uintptr) { n, err = do(int(fd)) })
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// SetMode changes the line while it is open. It first waits until all that was written has
// left, at most until the write deadline. The Path of c does not count. When it fails, the
// line may be half changed.
func (p *Port) SetMode(c Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.change(c)
}

// SetBaud changes the rate alone, as SetMode does.
func (p *Port) SetBaud(baud int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.now
	c.Baud = baud
	return p.change(c)
}

func (p *Port) change(c Config) error {
	what := "set up serial port " + p.path
	mode, err := c.mode(what)
	if err != nil {
		return err
	}
	if err := p.drain(); err != nil {
		return fmt.Errorf("%s: wait for what was written: %w", what, err)
	}
	if err := p.port.SetMode(mode); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := p.apply(c); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Read returns what has come, at least one byte, or os.ErrDeadlineExceeded once
// the deadline is over. It takes no thread and no time while it waits.
func (p *Port) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	if errors.Is(err, io.EOF) { // what a tty gives that was hung up
		return n, fmt.Errorf("read %s: the port is gone: %w", p.path, err)
	}
	return n, err
}

// Pending reads what is there already, whatever the deadline; (0, nil) means nothing.
func (p *Port) Pending(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := p.control(func(fd int) (int, error) { return unix.Read(fd, b) })
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read %s: %w", p.path, err)
	case n == 0:
		return 0, fmt.Errorf("read %s: the port is gone: %w", p.path, io.EOF)
	}
	return n, nil
}

// Write writes b. The kernel buffers it: Write only waits while that is full, and
// no longer than until the write deadline.
func (p *Port) Write(b []byte) (int, error) { return p.file.Write(b) }

// SetReadDeadline sets the deadline of the running and the next Reads; the zero time is none.
func (p *Port) SetReadDeadline(t time.Time) error { return p.file.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of the running and the next Writes, and of what SetMode
// and SetBaud wait for; the zero time is none.
func (p *Port) SetWriteDeadline(t time.Time) error {
	nanos := int64(0)
	if !t.IsZero() {
		nanos = t.UnixNano()
	}
	p.write.Store(nanos)
	return p.file.SetWriteDeadline(t)
}

// expired returns an error once the write deadline has passed.
func (p *Port) expired() error {
	if at := p.write.Load(); at != 0 && time.Now().UnixNano() >= at {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Close closes the port and ends a Read that waits. It is safe to call twice.
func (p *Port) Close() error {
	p.close.Do(func() {
		// A child that is being started has a copy of the descriptor for a moment; the lock shall not wait for it.
		_, _ = p.control(func(fd int) (int, error) { return 0, unix.Flock(fd, unix.LOCK_UN) })
		var err error
		if p.port != nil {
			err = p.port.Close()
		}
		if err = errors.Join(err, p.file.Close()); err != nil {
			p.err = fmt.Errorf("close serial port %s: %w", p.path, err)
		}
	})
	return p.err
}
