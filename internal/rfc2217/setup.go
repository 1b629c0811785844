package rfc2217

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// ErrNoComPort is in the error of a Dial whose server does not know COM-PORT-OPTION.
var ErrNoComPort = errors.New("the server does not speak RFC 2217; use tcp:// for a raw device server")

// errUnconfirmed is of a server that does not answer.
var errUnconfirmed = errors.New("the server did not answer in time")

const (
	// dialTimeout bounds the negotiation after the connection is open.
	dialTimeout = 5 * time.Second
	// confirmTimeout bounds the wait for what SetBaud asks for.
	confirmTimeout = 2 * time.Second
	// drainSlack is added to the time that written data needs on the line: servers take up
	// what comes at different pace.
	drainSlack = 20 * time.Millisecond
	// signature is our answer to SIGNATURE.
	signature = "twinline"
)

// Keepalive finds a server that vanished while nothing is asked of it.
const (
	keepIdle     = 15 * time.Second
	keepInterval = 5 * time.Second
	keepCount    = 3
)

// options is what both sides have agreed on.
type options struct {
	comPort, sendBinary, receiveBinary answer
	theirs                             answer        // COM-PORT-OPTION the other way round, which some servers offer as well
	done                               chan struct{} // closed when all are answered, or COM-PORT-OPTION is refused
}

type answer byte

const (
	unanswered answer = iota
	yes
	no
)

// Dial connects to a device server at host:port, sets its serial port and discards what was under way. It takes at most
// five seconds once connected, less when ctx ends. A server that sets something else is a *RefusedError, one that knows no
// RFC 2217 is ErrNoComPort.
func Dial(ctx context.Context, address string, s Settings) (*Conn, error) {
	s, err := s.complete()
	if err != nil {
		return nil, fmt.Errorf("open rfc2217 port %s: %w", address, err)
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount}}
	stream, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("open rfc2217 port %s: %w", address, err)
	}
	return open(ctx, address, stream, s)
}

// open makes a Conn of a stream, which it closes if it fails.
func open(ctx context.Context, name string, stream net.Conn, s Settings) (*Conn, error) {
	c := newConn(name, stream, s)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err := c.handshake(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx) // it is closed
	}
	if err == nil {
		return c, nil
	}
	_ = c.Close() // whatever it says, it is given up
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, ErrNoComPort) {
		err = cause
	}
	return nil, fmt.Errorf("open rfc2217 port %s: %w", name, c.why(err))
}

// handshake agrees on the options and sets the port.
func (c *Conn) handshake(ctx context.Context) error {
	until := time.Now().Add(dialTimeout)
	if d, ok := ctx.Deadline(); ok {
		if d = d.Add(-time.Until(d) / 10); d.Before(until) { // so that what is missing is said, and not that ctx is over
			until = d
		}
	}
	c.discard = true
	if err := c.agree(until); err != nil {
		return err
	}
	c.mu.Lock()
	s := c.settings
	c.mu.Unlock()
	prefix := appendSub(nil, codeLineMask, []byte{lineErrorsMask})
	prefix = appendSub(prefix, codeModemMask, []byte{0})
	// What the port had received goes before its last setting is confirmed, and with it all that comes until then.
	if err := c.settle(until, prefix, s.list()); err != nil {
		return err
	}
	c.discard = false
	return nil
}

// agree negotiates the options (RFC 855).
func (c *Conn) agree(until time.Time) error {
	done := make(chan struct{})
	c.mu.Lock()
	c.options.done = done
	c.mu.Unlock()
	offer := appendOption(nil, cmdWill, optComPort)
	for _, option := range []byte{optBinary, optGoAhead} {
		offer = appendOption(appendOption(offer, cmdWill, option), cmdDo, option)
	}
	if err := c.tell(offer, until); err != nil {
		return err
	}
	err := c.await(until, done)
	c.mu.Lock()
	o := c.options
	c.options.done = nil
	c.mu.Unlock()
	switch {
	case o.comPort == no, errors.Is(err, errUnconfirmed) && o.comPort == unanswered:
		return ErrNoComPort
	case errors.Is(err, errLong), errors.Is(err, errMalformed): // data of a raw server
		return fmt.Errorf("%w: %w", ErrNoComPort, err)
	case err != nil && !errors.Is(err, errUnconfirmed):
		return err
	case o.sendBinary != yes || o.receiveBinary != yes:
		return errors.New("the server refuses binary transmission; switch its port from a terminal to a raw or binary mode")
	}
	return nil
}

// settle asks for settings and waits until all are confirmed. prefix goes before.
func (c *Conn) settle(until time.Time, prefix []byte, list []setting) error {
	done := make(chan struct{})
	c.mu.Lock()
	c.asked, c.confirm, c.refused = list, done, nil
	c.mu.Unlock()
	requests := prefix
	for i := range list {
		if i == len(list)-1 && len(prefix) > 0 {
			requests = appendSub(requests, codePurge, []byte{purgeBoth})
		}
		requests = list[i].append(requests)
	}
	err := c.tell(requests, until)
	if err == nil {
		err = c.await(until, done)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := c.refused
	c.asked, c.confirm, c.refused = nil, nil, nil
	if refused != nil {
		return refused
	}
	if errors.Is(err, errUnconfirmed) {
		for i := range list {
			if !list[i].answered {
				return fmt.Errorf("set the %s to %d: %w", list[i].name, list[i].value, err)
			}
		}
	}
	return err
}

// await reads until done is closed, unless a Read does so already.
func (c *Conn) await(until time.Time, done <-chan struct{}) error {
	timeout := time.NewTimer(time.Until(until))
	defer timeout.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-c.closed:
			return net.ErrClosed
		case <-timeout.C:
			return errUnconfirmed
		case c.reading <- struct{}{}:
		}
		err := c.hear(until, done)
		<-c.reading
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errUnconfirmed
		}
		if err != nil {
			return err
		}
	}
}

// hear reads once and keeps the data. The caller has c.reading.
func (c *Conn) hear(until time.Time, done <-chan struct{}) error {
	select {
	case <-done: // in the Read that was before
		return nil
	default:
	}
	var buf [512]byte
	c.readAt.borrow(until)
	defer c.readAt.giveBack()
	n, err := c.pump(buf[:])
	if c.discard {
		return err
	}
	if len(c.pending)+n > maxPending {
		return c.fail("read", fmt.Errorf("more than %d bytes came before the server answered", maxPending))
	}
	c.pending = append(c.pending, buf[:n]...)
	return err
}

// SetBaud changes the rate of the far port. It first waits until what was written has left
// the far port by our reckoning, and fails with os.ErrDeadlineExceeded at once if that is after the write
// deadline; then at most two seconds for the server to confirm. A server that takes another rate
// is a *RefusedError; one that says nothing is the connection's end. What comes meanwhile is kept for Read. A Close ends it.
func (c *Conn) SetBaud(baud int) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	what := fmt.Sprintf("set %s to %d baud", c.name, baud)
	c.mu.Lock()
	s := c.settings
	c.mu.Unlock()
	s.Baud = baud
	s, err := s.complete()
	if err == nil {
		err = c.drain()
	}
	if err == nil {
		err = c.settle(time.Now().Add(confirmTimeout), nil, s.list()[:1])
	}
	if errors.Is(err, errUnconfirmed) {
		_ = c.fail("set up", err) // a late answer could be taken for that of the next change
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, c.why(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings = s
	return nil
}

// drain waits until the far port has sent what was written.
func (c *Conn) drain() error {
	if err := c.end(); err != nil {
		return err
	}
	c.writing.Lock()
	free := c.free
	c.writing.Unlock()
	if free.IsZero() {
		return nil
	}
	free = free.Add(drainSlack)
	if at := c.writeAt.get(); !at.IsZero() && at.Before(free) {
		return fmt.Errorf("wait for what was written: %w", os.ErrDeadlineExceeded)
	}
	select {
	case <-c.closed:
		return net.ErrClosed
	case <-time.After(time.Until(free)):
		return nil
	}
}

// command deals with what the server says. It is called by who has c.reading.
func (c *Conn) command(cmd command) error {
	switch cmd.verb {
	case cmdWill, cmdWont, cmdDo, cmdDont:
		return c.option(cmd)
	case cmdSB:
		if cmd.option == optComPort && len(cmd.body) > 0 && cmd.body[0] >= answerOffset {
			c.said(cmd.body[0]-answerOffset, cmd.body[1:])
		}
	}
	return nil
}

// option answers what the server offers and asks for, where it is not an answer to us: we
// have said at once what we are ready for.
func (c *Conn) option(cmd command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.options
	var slot *answer
	ours := cmd.verb == cmdDo || cmd.verb == cmdDont // it is about what we send
	switch {
	case cmd.option == optComPort && ours:
		slot = &o.comPort
	case cmd.option == optBinary && ours:
		slot = &o.sendBinary
	case cmd.option == optBinary:
		slot = &o.receiveBinary
	case cmd.option == optComPort && cmd.verb == cmdWill:
		if o.theirs != yes { // once: answers to answers would never end
			c.replies = appendOption(c.replies, cmdDo, optComPort)
		}
		o.theirs = yes
		return nil
	case cmd.option == optGoAhead: // we agree, and it does not matter
		return nil
	case cmd.verb == cmdDo:
		c.replies = appendOption(c.replies, cmdWont, cmd.option)
		return nil
	case cmd.verb == cmdWill:
		c.replies = appendOption(c.replies, cmdDont, cmd.option)
		return nil
	default:
		return nil
	}
	said := yes
	if cmd.verb == cmdDont || cmd.verb == cmdWont {
		said = no
	}
	if *slot == yes && said == no {
		return fmt.Errorf("the server took back telnet option %d", cmd.option)
	}
	*slot = said
	if o.done != nil && (o.comPort == no || o.comPort != unanswered && o.sendBinary != unanswered && o.receiveBinary != unanswered) {
		close(o.done)
		o.done = nil
	}
	return nil
}

// said deals with a message of COM-PORT-OPTION.
func (c *Conn) said(code byte, body []byte) {
	switch {
	case code == codeSignature && len(body) == 0:
		c.replies = appendSub(c.replies, codeSignature, []byte(signature))
	case code == codeLineState && len(body) == 1:
		c.line.add(body[0])
	case code >= codeBaud && code <= codeControl:
		if value, ok := answerValue(code, body); ok {
			c.answered(code, value)
		}
	}
}

func (l *LineErrors) add(state byte) {
	if state&lineOverrun != 0 {
		l.Overrun.Add(1)
	}
	if state&lineParity != 0 {
		l.Parity.Add(1)
	}
	if state&lineFraming != 0 {
		l.Framing.Add(1)
	}
	if state&lineBreak != 0 {
		l.Break.Add(1)
	}
}

// answered settles the request that an answer is to.
func (c *Conn) answered(code byte, value uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.confirm == nil {
		return
	}
	left := 0
	for i := range c.asked {
		s := &c.asked[i]
		if s.matches(code, value) {
			s.answered = true
			if s.value != value && c.refused == nil {
				c.refused = &RefusedError{Setting: s.name, Want: s.value, Got: value}
			}
		}
		if !s.answered {
			left++
		}
	}
	if left == 0 || c.refused != nil {
		close(c.confirm)
		c.confirm = nil
	}
}
