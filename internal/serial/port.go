package serial

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/pkg/mapper"
)

// Stream is an open port or connection. A Read that has nothing until its
// deadline returns an error that is os.ErrDeadlineExceeded. The deadlines may be set, and Close
// called, while another goroutine reads.
type Stream interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// Dialer opens the stream of an endpoint, within ctx.
type Dialer func(ctx context.Context) (Stream, error)

// Counters say what a line went through. They only rise.
type Counters struct {
	Requests atomic.Uint64 // frames sent
	Silent   atomic.Uint64 // of them, without an answer in time
	Refused  atomic.Uint64 // answers that are no value
	Late     atomic.Uint64 // answers after their time, discarded
	Foreign  atomic.Uint64 // whole frames that are nothing anybody declared
	Unread   atomic.Uint64 // whole frames that the profile could not read
	Frames   atomic.Uint64 // whole frames of devices on the line
	Damaged  atomic.Uint64 // frames with a wrong check
	Skipped  atomic.Uint64 // bytes that belong to no frame
	Connects atomic.Uint64 // streams opened
	Sent     atomic.Uint64 // bytes
	Received atomic.Uint64 // bytes
}

// Reconnecting: at once after a connection that worked, else after a pause that
// doubles, with a quarter of jitter so that many lines do not knock together.
const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// Port is one line in use: it opens the stream when it is needed, and reads all
// that comes, which goes to the Ears of the devices on it. All methods are safe for concurrent use;
// those that send are for whoever has the line's turn.
type Port struct {
	name    string
	network bool
	dial    Dialer
	count   Counters

	mu      sync.Mutex
	ears    map[*Ear]struct{}
	stream  Stream
	reading chan struct{} // closed when the reader of stream has ended
	worked  bool          // the stream has brought a frame
	echoed  []byte        // what is to come back of what was sent
	backoff time.Duration
	retryAt time.Time
	lastErr error
	opened  uint64    // rises with each stream
	quiet   time.Time // until when an answer may come that is owed
	silent  int       // questions since the last byte that came
}

// NewPort returns a port that is not open. dial opens its stream.
func NewPort(e Endpoint, dial Dialer) *Port {
	return &Port{name: e.String(), network: e.Scheme != TTY, dial: dial, ears: map[*Ear]struct{}{}}
}

// Counters are safe for concurrent use.
func (p *Port) Counters() *Counters { return &p.count }

// Close closes the stream and waits for its reader. Ears stay; the port may be opened again.
func (p *Port) Close() error {
	p.mu.Lock()
	stream, reading := p.stream, p.reading
	p.stream, p.reading = nil, nil
	p.mu.Unlock()
	var err error
	if stream != nil {
		err = stream.Close()
	}
	if reading != nil {
		<-reading
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", p.name, err)
	}
	return nil
}

// Open opens the stream if there is none, within timeout. It tells which stream it
// is: the number is another after each opening.
func (p *Port) Open(ctx context.Context, timeout time.Duration) (opening uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream != nil {
		return p.opened, nil
	}
	if wait := time.Until(p.retryAt); wait > 0 {
		return 0, fault(whyConnection, "%w: %s is tried again in %s: %w", link.ErrDown, p.name, wait.Round(time.Millisecond), p.lastErr)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := p.reading
	p.mu.Unlock()
	if last != nil {
		<-last // it has seen its stream break and ends
	}
	stream, err := p.dial(ctx)
	p.mu.Lock()
	if err != nil {
		p.lastErr = err
		p.postpone()
		return 0, fault(whyConnection, "%w: open %s: %w", link.ErrDown, p.name, err)
	}
	p.count.Connects.Add(1)
	p.stream, p.reading, p.worked, p.echoed, p.silent = stream, make(chan struct{}), false, nil, 0
	p.opened++
	for e := range p.ears {
		e.reopened(p.opened)
	}
	go p.read(stream, p.reading)
	return p.opened, nil
}

func (p *Port) postpone() {
	p.backoff = min(max(2*p.backoff, firstBackoff), lastBackoff)
	p.retryAt = time.Now().Add(p.backoff - p.backoff/4 + rand.N(p.backoff/2))
}

// read hands on what comes until the stream ends. done tells when it has.
func (p *Port) read(stream Stream, done chan<- struct{}) {
	defer close(done)
	buf := make([]byte, 4096)
	for {
		p.wakeFor(stream)
		n, err := stream.Read(buf)
		now := time.Now()
		if n > 0 {
			p.count.Received.Add(uint64(n))
			p.deliver(buf[:n], now)
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.deliver(nil, now)
		default:
			p.broken(stream, err)
			return
		}
	}
}

// wakeFor makes a Read of stream end when an ear waits for a silence to be over.
func (p *Port) wakeFor(stream Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var at time.Time
	for e := range p.ears {
		if d, ok := e.deadline(); ok && (at.IsZero() || d.Before(at)) {
			at = d
		}
	}
	_ = stream.SetReadDeadline(at) // an error shows in the Read that follows
}

// deliver gives all ears what came; nothing tells them that time has passed.
func (p *Port) deliver(b []byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(b) > 0 {
		p.silent = 0
	}
	b = p.withoutEcho(b)
	for e := range p.ears {
		if e.hear(b, now) {
			p.worked, p.backoff = true, 0
		}
	}
}

// withoutEcho takes off what the line repeats of what was sent; p.mu is held.
func (p *Port) withoutEcho(b []byte) []byte {
	for len(b) > 0 && len(p.echoed) > 0 {
		if b[0] != p.echoed[0] {
			p.echoed = nil // it does not repeat: all is the instrument's
			break
		}
		b, p.echoed = b[1:], p.echoed[1:]
	}
	return b
}

// broken notes that stream has failed with err.
func (p *Port) broken(stream Stream, err error) {
	_ = stream.Close() // whatever it says, it is given up
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream == stream { // else it was closed by Close
		p.stream, p.lastErr = nil, err
		if !p.worked {
			p.postpone()
		}
	}
	failure := fault(whyConnection, "%w: %s: %w", link.ErrDown, p.name, err)
	for e := range p.ears {
		e.broke(failure)
	}
}

// send writes a frame, within timeout.
func (p *Port) send(ctx context.Context, frame []byte, timeout time.Duration, echo bool) error {
	p.mu.Lock()
	stream := p.stream
	if stream == nil {
		err := p.lastErr
		p.mu.Unlock()
		return fault(whyConnection, "%w: %s: %w", link.ErrDown, p.name, err)
	}
	if echo {
		p.echoed = append(p.echoed[:0:0], frame...)
	}
	p.mu.Unlock()
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = stream.SetWriteDeadline(deadline)
	p.count.Requests.Add(1)
	n, err := stream.Write(frame)
	p.count.Sent.Add(uint64(n))
	if err != nil {
		_ = stream.Close() // part of a frame may be out; the reader ends with it
		return fault(whyConnection, "%w: send to %s: %w", link.ErrDown, p.name, err)
	}
	return nil
}

// maxSilent bounds how many questions in a row may go without a byte before a network
// connection is taken for dead: a peer that lost power says nothing.
const maxSilent = 3

// unanswered notes that a question was, until when its answer may come.
func (p *Port) unanswered(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until.After(p.quiet) {
		p.quiet = until
	}
	if p.silent++; p.network && p.silent >= maxSilent && p.stream != nil {
		_ = p.stream.Close() // its reader sees it
	}
}

// setBaud changes the rate of the open stream.
func (p *Port) setBaud(baud int) error {
	p.mu.Lock()
	stream := p.stream
	p.mu.Unlock()
	retunable, ok := stream.(interface{ SetBaud(baud int) error })
	if !ok {
		return errFixed
	}
	if err := retunable.SetBaud(baud); err != nil {
		return fmt.Errorf("set %s to %d baud: %w", p.name, baud, err)
	}
	return nil
}

// errFixed says that the stream cannot change its rate.
var errFixed = errors.New("the line's rate cannot be changed here")

// Words for qualities.
const (
	whyTimeout    = "timeout"
	whyConnection = "connection"
	whyStale      = "stale"
)

func fault(why, format string, args ...any) error {
	return &mapper.Fault{Why: why, Err: fmt.Errorf(format, args...)}
}

// settle waits until what is still owed by an earlier question cannot come any more.
func (p *Port) settle(ctx context.Context) error {
	p.mu.Lock()
	quiet := p.quiet
	p.mu.Unlock()
	return p.waitUntil(ctx, quiet)
}

func (p *Port) waitUntil(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault(whyTimeout, "wait for %s to be quiet: %w", p.name, context.Cause(ctx))
	}
}
