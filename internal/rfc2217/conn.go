// Package rfc2217 is a client of serial device servers that speak RFC 2217: telnet with
// COM-PORT-OPTION, by which the client sets the rate and the rest of the far serial port.
package rfc2217

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is an open far serial port. One Read, one Write and one SetBaud may run at the same time;
// the deadlines and Close are safe from any goroutine. A Read or Write that fails with
// anything but os.ErrDeadlineExceeded is the connection's end, and the owner closes it
// and dials anew, with a pause of his own.
type Conn struct {
	name string
	net  net.Conn
	line LineErrors

	// reading is held by who reads from net; the next five are his.
	reading chan struct{}
	decoder decoder
	handle  func(command) error // of commands
	pending []byte              // data that came while SetBaud waited
	discard bool                // keep no data: Dial has not ended
	replies []byte              // to be sent once a Read is decoded

	writing sync.Mutex // guards the next two, and keeps commands out of data
	scratch []byte
	free    time.Time // when the far port has sent what was written

	readAt, writeAt deadline

	changing sync.Mutex // one change of settings at a time
	mu       sync.Mutex // guards the rest
	settings Settings
	options  options
	asked    []setting
	confirm  chan struct{} // closed when all of asked are answered, or one wrongly; nil: nobody waits
	refused  *RefusedError
	err      error // the connection's end

	close  sync.Once
	closed chan struct{}
}

// LineErrors counts what the server said of its line, from its NOTIFY-LINESTATE: at
// least one error a count.
type LineErrors struct {
	Overrun, Parity, Framing, Break atomic.Uint64
}

// Bounds of a connection.
const (
	// maxPending bounds what may come while SetBaud waits for its confirmation.
	maxPending = 64 << 10
	// maxChunk is how much data is encoded at once.
	maxChunk = 1024
	// replyTimeout bounds the sending of an answer to the server's own requests.
	replyTimeout = 2 * time.Second
)

func newConn(name string, c net.Conn, s Settings) *Conn {
	conn := &Conn{name: name, net: c, settings: s, reading: make(chan struct{}, 1), closed: make(chan struct{})}
	conn.readAt.set, conn.writeAt.set = c.SetReadDeadline, c.SetWriteDeadline
	conn.handle = conn.command
	return conn
}

// LineErrors returns the counts, which are safe for concurrent use.
func (c *Conn) LineErrors() *LineErrors { return &c.line }

// Read returns data that has come, at least one byte, or os.ErrDeadlineExceeded once the deadline is over.
// A Read that comes while SetBaud waits for the server waits with it, and one that has to answer the
// server waits for the Write that runs.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if len(c.pending) > 0 {
		n := copy(b, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	for {
		if n, err := c.pump(b); n > 0 || err != nil {
			return n, err
		}
	}
}

// pump reads once, and deals with the commands in it. It returns data or an error, or neither.
func (c *Conn) pump(b []byte) (int, error) {
	if err := c.end(); err != nil {
		return 0, err
	}
	n, err := c.net.Read(b)
	n, wrong := c.decoder.decode(b[:n], c.handle)
	if wrong == nil {
		wrong = c.reply()
	}
	switch {
	case wrong != nil:
		err = c.fail("read", wrong)
	case errors.Is(err, io.EOF):
		err = c.fail("read", fmt.Errorf("the server closed the connection: %w", err))
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("read %s: %w", c.name, os.ErrDeadlineExceeded)
	case err != nil:
		err = c.fail("read", err)
	}
	if n > 0 {
		return n, nil // an error that lasts comes with the next Read
	}
	return 0, err
}

// reply sends what command left to be sent.
func (c *Conn) reply() error {
	if len(c.replies) == 0 {
		return nil
	}
	err := c.tell(c.replies, time.Now().Add(replyTimeout))
	c.replies = c.replies[:0]
	return err
}

// tell sends commands, whatever the write deadline. One that is cut is the connection's end.
func (c *Conn) tell(commands []byte, until time.Time) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writeAt.borrow(until)
	defer c.writeAt.giveBack()
	if _, err := c.net.Write(commands); err != nil {
		return c.fail("write", err)
	}
	return nil
}

// Write writes b. It waits while the server takes nothing, no longer than until the write
// deadline. When only a part was written, the connection is at its end.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.end(); err != nil {
		return 0, err
	}
	done := 0
	for done < len(b) {
		chunk := b[done:min(len(b), done+maxChunk)]
		out := chunk
		if bytes.IndexByte(chunk, cmdIAC) >= 0 {
			c.scratch = appendData(c.scratch[:0], chunk)
			out = c.scratch
		}
		n, err := c.net.Write(out)
		done += plain(chunk, n)
		if err != nil && n == 0 && done == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, fmt.Errorf("write %s: %w", c.name, os.ErrDeadlineExceeded)
		}
		if err != nil {
			return done, c.fail("write", err)
		}
	}
	c.mu.Lock()
	char := c.settings.char()
	c.mu.Unlock()
	if now := time.Now(); c.free.Before(now) {
		c.free = now
	}
	c.free = c.free.Add(time.Duration(done) * char)
	return done, nil
}

// fail notes the connection's end. The first one counts.
func (c *Conn) fail(doing string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) { // it has the operation, and an address that says less
		err = op.Err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("%s %s: %w", doing, c.name, err)
	}
	return c.err
}

// end returns the connection's end, nil while it lasts.
func (c *Conn) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// why takes operation and name off the connection's end, for who has those himself.
func (c *Conn) why(err error) error {
	if end := c.end(); end != nil && err == end { //nolint:errorlint // it is that very one
		return errors.Unwrap(end)
	}
	return err
}

// SetReadDeadline sets the deadline of the running and the next Reads; the zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.readAt.user(t) }

// SetWriteDeadline sets the deadline of the running and the next Writes; the zero time is none.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.writeAt.user(t) }

// Close closes the connection and ends all that waits. It is safe to call twice.
func (c *Conn) Close() error {
	var err error
	c.close.Do(func() {
		close(c.closed)
		if err = c.net.Close(); err != nil {
			err = fmt.Errorf("close %s: %w", c.name, err)
		}
	})
	return err
}

// deadline is one that the user sets and the protocol borrows.
type deadline struct {
	mu       sync.Mutex
	at       time.Time // the user's
	borrowed bool
	set      func(time.Time) error
}

func (d *deadline) user(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	if d.borrowed {
		return nil
	}
	return d.set(t)
}

func (d *deadline) borrow(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.borrowed = true
	_ = d.set(t) // an error shows in what follows
}

func (d *deadline) giveBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.borrowed = false
	_ = d.set(d.at)
}

func (d *deadline) get() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}
