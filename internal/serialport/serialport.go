// Package serialport opens serial ports through go.bug.st/serial and gives
// them what net.Conn has: deadlines that other goroutines may set.
package serialport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.bug.st/serial"
)

// Parity is the parity of a Config.
type Parity string

// The parities.
const (
	None Parity = "none"
	Even Parity = "even"
	Odd  Parity = "odd"
)

// Config says which port, and how.
type Config struct {
	Path     string // best /dev/serial/by-id/…, which survives replugging
	Baud     int
	Parity   Parity // empty: none
	StopBits int    // 1 or 2; 0: 1
	DataBits int    // 5 to 8; 0: 8
}

// Port is an open serial port. Reads and writes may run at the same time, and
// the deadlines and Close are safe from any goroutine; several Reads at once are not. It does not reopen: a Read
// or Write that fails with anything but os.ErrDeadlineExceeded is the port's end,
// and the owner closes it and opens it anew, with a pause of his own.
type Port struct {
	path  string
	port  serial.Port
	read  atomic.Int64 // the deadline in nanoseconds since 1970; 0: none
	write atomic.Int64
	close sync.Once
	err   error // of Close
}

// slice is how long a Read waits before it looks at its deadline again, which
// bounds how late a changed deadline is noticed.
const slice = 10 * time.Millisecond

// Open opens a port. It does not wait, so ctx only spares an open that nobody wants.
func Open(ctx context.Context, c Config) (*Port, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", c.Path, err)
	}
	mode, err := c.mode()
	if err != nil {
		return nil, err
	}
	port, err := serial.Open(c.Path, mode)
	if err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", c.Path, err)
	}
	if err := port.ResetInputBuffer(); err != nil {
		return nil, errors.Join(fmt.Errorf("open serial port %s: empty its buffer: %w", c.Path, err), port.Close())
	}
	return &Port{path: c.Path, port: port}, nil
}

// mode translates the settings.
func (c Config) mode() (*serial.Mode, error) {
	mode := &serial.Mode{BaudRate: c.Baud, DataBits: c.DataBits}
	if mode.DataBits == 0 {
		mode.DataBits = 8
	}
	switch c.Parity {
	case "", None:
		mode.Parity = serial.NoParity
	case Even:
		mode.Parity = serial.EvenParity
	case Odd:
		mode.Parity = serial.OddParity
	default:
		return nil, fmt.Errorf("open serial port %s: parity %q; use none, even or odd", c.Path, c.Parity)
	}
	switch c.StopBits {
	case 0, 1:
		mode.StopBits = serial.OneStopBit
	case 2:
		mode.StopBits = serial.TwoStopBits
	default:
		return nil, fmt.Errorf("open serial port %s: %d stop bits; use 1 or 2", c.Path, c.StopBits)
	}
	return mode, nil
}

// Read returns what has come, at least one byte, or os.ErrDeadlineExceeded once
// the deadline is over. A deadline that passes during a Read is noticed within 10 ms.
func (p *Port) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		wait := slice
		deadline := p.read.Load()
		if deadline != 0 {
			wait = min(wait, time.Duration(deadline-time.Now().UnixNano()))
		}
		n, err := p.wait(b, max(wait, 0))
		if n > 0 || err != nil {
			return n, err
		}
		if deadline != 0 && wait <= 0 {
			return 0, fmt.Errorf("read %s: %w", p.path, os.ErrDeadlineExceeded)
		}
	}
}

// Pending reads what is there already; (0, nil) means nothing.
func (p *Port) Pending(b []byte) (int, error) { return p.wait(b, 0) }

func (p *Port) wait(b []byte, wait time.Duration) (int, error) {
	if err := p.port.SetReadTimeout(wait); err != nil {
		return 0, fmt.Errorf("read %s: %w", p.path, err)
	}
	n, err := p.port.Read(b) // (0, nil) after wait
	if err != nil {
		return n, fmt.Errorf("read %s: %w", p.path, err)
	}
	return n, nil
}

// Write writes b. The kernel buffers it: Write only waits while that is full, and
// the deadline is looked at before each part.
func (p *Port) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		if deadline := p.write.Load(); deadline != 0 && time.Now().UnixNano() >= deadline {
			return done, fmt.Errorf("write %s: %w", p.path, os.ErrDeadlineExceeded)
		}
		n, err := p.port.Write(b[done:])
		done += n
		if err != nil {
			return done, fmt.Errorf("write %s: %w", p.path, err)
		}
	}
	return done, nil
}

// SetReadDeadline sets the deadline of the running and the next Reads; the zero time is none.
func (p *Port) SetReadDeadline(t time.Time) error {
	p.read.Store(nanos(t))
	return nil
}

// SetWriteDeadline sets the deadline of the next Writes; the zero time is none.
func (p *Port) SetWriteDeadline(t time.Time) error {
	p.write.Store(nanos(t))
	return nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Close closes the port and ends a Read that waits. It is safe to call twice.
func (p *Port) Close() error {
	p.close.Do(func() {
		if err := p.port.Close(); err != nil {
			p.err = fmt.Errorf("close serial port %s: %w", p.path, err)
		}
	})
	return p.err
}
