package modbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/pkg/mapper"
)

// Stream is an open connection or serial port: what net.Conn and
// serialport.Port have in common. A Read that has nothing until its deadline
// returns an error that is os.ErrDeadlineExceeded. The deadlines may be set while another
// goroutine reads.
type Stream interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// Dialer opens the stream of an endpoint, within ctx.
type Dialer func(ctx context.Context) (Stream, error)

// Transport carries requests to the devices of one line, one at a time.
type Transport interface {
	// Exchange sends a request frame of goburrow/modbus and returns the frame of its
	// answer, which may be an exception and is valid until the next call. It
	// connects first where needed. The answer is of the unit and of the shape
	// that the request asks for, and never one to an earlier request. Errors are mapper.Faults; link.ErrSilent and
	// link.ErrDown tell the line which it was. It returns soon after ctx ends, and within two timeouts.
	// Not safe for concurrent use.
	Exchange(ctx context.Context, request []byte, timeout time.Duration) ([]byte, error)
	// Close closes the stream. The next Exchange would open it anew.
	Close() error
	// Counters are safe for concurrent use.
	Counters() *Counters
}

// Counters say what a line went through. They only rise.
type Counters struct {
	Requests   atomic.Uint64 // frames sent, with fences
	Silent     atomic.Uint64 // requests without an answer in time
	Late       atomic.Uint64 // answers to earlier requests, discarded
	Foreign    atomic.Uint64 // frames that answer nothing we asked, discarded
	Damaged    atomic.Uint64 // checksums or headers that are wrong
	Fences     atomic.Uint64 // requests sent to tell old answers from new ones
	Connects   atomic.Uint64 // streams opened
	Sent       atomic.Uint64 // bytes
	Received   atomic.Uint64 // bytes
	Exceptions atomic.Uint64 // answers that are exceptions
}

// Words for qualities.
const (
	whyTimeout    = "timeout"
	whyChecksum   = "crc"
	whyConnection = "connection"
	whyMismatch   = "mismatch"
	whyNoise      = "noise"
)

func fault(why, format string, args ...any) error {
	return &mapper.Fault{Why: why, Err: fmt.Errorf(format, args...)}
}

// Reconnecting: at once after a connection that worked, else after a pause
// that doubles, with a quarter of jitter so that many lines do not knock together.
const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// maxSilent bounds how many requests in a row may go unanswered before a network
	// connection is taken for dead: a peer that lost power says nothing.
	maxSilent = 3
)

// conn is a stream that is opened when it is needed.
type conn struct {
	name    string
	dial    Dialer
	stream  Stream
	count   Counters
	worked  bool // the stream has brought an answer
	backoff time.Duration
	retryAt time.Time
	lastErr error
	silent  int // requests since the last byte that came
	network bool
}

// Counters implements Transport.
func (c *conn) Counters() *Counters { return &c.count }

// connect opens the stream if there is none.
func (c *conn) connect(ctx context.Context, timeout time.Duration) error {
	if c.stream != nil {
		return nil
	}
	if wait := time.Until(c.retryAt); wait > 0 {
		return fault(whyConnection, "%w: %s is tried again in %s: %w", link.ErrDown, c.name, wait.Round(time.Millisecond), c.lastErr)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stream, err := c.dial(ctx)
	if err != nil {
		c.lastErr = err
		c.postpone()
		return fault(whyConnection, "%w: open %s: %w", link.ErrDown, c.name, err)
	}
	c.count.Connects.Add(1)
	c.stream, c.worked, c.silent = stream, false, 0
	return nil
}

func (c *conn) postpone() {
	c.backoff = min(max(2*c.backoff, firstBackoff), lastBackoff)
	c.retryAt = time.Now().Add(c.backoff - c.backoff/4 + rand.N(c.backoff/2))
}

// answered notes that the stream works.
func (c *conn) answered() { c.worked, c.backoff, c.silent = true, 0, 0 }

// drop closes the stream because of err.
func (c *conn) drop(err error) {
	if c.stream == nil {
		return
	}
	_ = c.stream.Close() // whatever it says, it is given up
	c.stream, c.lastErr = nil, err
	if !c.worked {
		c.postpone()
	}
}

// Close implements Transport.
func (c *conn) Close() error {
	if c.stream == nil {
		return nil
	}
	err := c.stream.Close()
	c.stream = nil
	if err != nil {
		return fmt.Errorf("close %s: %w", c.name, err)
	}
	return nil
}

// arm sets the deadlines of one request and makes the end of ctx one. The
// returned function takes it back.
func (c *conn) arm(ctx context.Context, timeout time.Duration) (disarm func()) {
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = c.stream.SetReadDeadline(deadline) // an error shows in the Read that follows
	_ = c.stream.SetWriteDeadline(deadline)
	if ctx.Done() == nil {
		return func() {}
	}
	stream, done := c.stream, make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		past := time.Unix(1, 0)
		_ = stream.SetReadDeadline(past)
		_ = stream.SetWriteDeadline(past)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// send writes a frame.
func (c *conn) send(ctx context.Context, frame []byte) error {
	c.count.Requests.Add(1)
	n, err := c.stream.Write(frame)
	c.count.Sent.Add(uint64(n))
	if err != nil {
		c.drop(err) // part of a frame may be out
		return c.failed(ctx, "send to", err)
	}
	return nil
}

// failed makes a Fault of what a Read or Write returned.
func (c *conn) failed(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return fault(whyTimeout, "%s %s: %w", doing, c.name, cause)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.drop(err)
		return fault(whyConnection, "%w: %s %s: %w", link.ErrDown, doing, c.name, err)
	}
	c.count.Silent.Add(1)
	c.silent++
	if c.network && c.silent >= maxSilent {
		c.drop(err)
	}
	return fault(whyTimeout, "%w: %s %s", link.ErrSilent, doing, c.name)
}

// Keepalive finds a peer that vanished while nothing is asked of it.
const (
	keepIdle     = 15 * time.Second
	keepInterval = 5 * time.Second
	keepCount    = 3
)

// DialNetwork returns the Dialer of an endpoint that is no serial port.
func DialNetwork(e Endpoint) Dialer {
	network := "tcp"
	if e.Scheme == UDP {
		network = "udp"
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount}}
	return func(ctx context.Context) (Stream, error) {
		stream, err := d.DialContext(ctx, network, e.Address)
		if err != nil {
			return nil, err
		}
		return netStream{stream}, nil
	}
}

// NewTransport returns the transport of an endpoint.
func NewTransport(e Endpoint, dial Dialer) Transport {
	c := &conn{name: e.String(), dial: dial, network: !e.Scheme.Serial()}
	if e.Scheme == TCP || e.Scheme == UDP {
		return newMBAP(c, e.Scheme == UDP)
	}
	return newSerialLine(c, e)
}
