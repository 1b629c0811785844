package simulator

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// serialLine is one line with the instruments on it.
type serialLine struct {
	name        string // the path of a terminal, or tcp://host:port
	address     string // host:port; "": it is a terminal
	instruments []*Instrument

	mu      sync.Mutex
	clients map[*client]struct{}
}

// maxSerialClients bounds the connections of one simulated line: all hear what is said on it.
const maxSerialClients = 8

// maxHeard bounds what is kept of a request that does not end.
const maxHeard = 64 << 10

// client is one who is on the line.
type client struct {
	line io.ReadWriter
	drop func() // closes it; nil: that cannot be
	far  *os.File

	mu sync.Mutex // for whole frames
}

// open claims the endpoint and returns the function that serves it until ctx ends.
func (l *serialLine) open(ctx context.Context) (serve func(), err error) {
	l.mu.Lock()
	l.clients = map[*client]struct{}{}
	l.mu.Unlock()
	if l.address == "" {
		near, far, err := openPTY(l.name)
		if err != nil {
			return nil, err
		}
		return func() {
			holdPTY(ctx, l.name, near, far, func(ctx context.Context) {
				c := &client{line: near, far: far}
				l.speakWhile(ctx, func(ctx context.Context) { l.serve(ctx, c) })
			})
		}, nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", l.address)
	if err != nil {
		return nil, fmt.Errorf("simulate %s: %w", l.name, err)
	}
	return func() {
		l.speakWhile(ctx, func(ctx context.Context) { l.accept(ctx, listener) })
	}, nil
}

// speakWhile lets the instruments speak until serve returns.
func (l *serialLine) speakWhile(ctx context.Context, serve func(ctx context.Context)) {
	var speaking sync.WaitGroup
	defer speaking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, i := range l.instruments {
		for n := range i.streams {
			speaking.Go(func() { l.speak(ctx, i, &i.streams[n]) })
		}
	}
	serve(ctx)
}

func (l *serialLine) accept(ctx context.Context, listener net.Listener) {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer closeWith(ctx, listener)()
	slots := make(chan struct{}, maxSerialClients)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		clients.Go(func() {
			defer func() { <-slots }()
			defer closeWith(ctx, conn)()
			l.serve(ctx, &client{line: conn, drop: func() { _ = conn.Close() }})
		})
	}
}

// serve answers a client until it leaves, or ctx ends and closes it.
func (l *serialLine) serve(ctx context.Context, c *client) {
	l.join(c)
	defer l.leave(c)
	ctx, cancel := context.WithCancel(ctx)
	bytes := make(chan []byte)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		readAll(ctx, c.line, bytes)
	}()
	defer func() {
		cancel()
		if c.drop != nil {
			c.drop()
		}
		<-ended // a terminal is closed by who opened it, at the end of its ctx
	}()
	var in []byte
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		isQuiet := false
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case b := <-bytes:
			if l.echoes() && c.write(ctx, b, Fault{}) != nil {
				return
			}
			in = append(in, b...)
		case <-timer.C:
			isQuiet = true
		}
		for {
			h, ok := l.find(in, isQuiet)
			if !ok {
				break
			}
			in = in[h.to:]
			if l.respond(ctx, c, &h) != nil {
				return
			}
		}
		if isQuiet || len(in) > maxHeard {
			in = nil
		}
		timer.Reset(quiet)
	}
}

func (l *serialLine) join(c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients[c] = struct{}{}
}

func (l *serialLine) leave(c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.clients, c)
}

// echoes reports whether the line repeats what is sent on it.
func (l *serialLine) echoes() bool {
	for _, i := range l.instruments {
		if i.config.Echo {
			return true
		}
	}
	return false
}

// respond answers what was heard.
func (l *serialLine) respond(ctx context.Context, c *client, h *heard) error {
	frame, fault := h.of.answer(h)
	if len(frame) == 0 && fault.Do != Hang && fault.Do != Close {
		return nil
	}
	if h.meter != "" {
		if err := pause(ctx, meterReaction); err != nil {
			return err
		}
	}
	return c.write(ctx, frame, fault)
}

// patience is how long a client may take to take a frame before it is not sent.
const patience = time.Second

// write sends a frame as the fault wants it. An error means that the client is gone.
func (c *client) write(ctx context.Context, frame []byte, fault Fault) error {
	switch fault.Do {
	case Close:
		if c.drop != nil {
			c.drop()
			return net.ErrClosed
		}
		return nil
	case Hang:
		return pause(ctx, fault.delay())
	case Late:
		if err := pause(ctx, fault.delay()); err != nil {
			return err
		}
		fault.Do = ""
	case Corrupt:
		frame = append([]byte(nil), frame...)
		frame[len(frame)/2] ^= 0xFF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.line.(interface{ SetWriteDeadline(t time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(patience + fault.delay())) // an error shows in the Write that follows
	}
	err := play(ctx, c.line, frame, fault)
	if c.far != nil && os.IsTimeout(err) { // nobody reads: as on a cable that ends in the air
		return nil
	}
	return err
}

// maxUnread is how much may wait in a terminal that nobody reads. More is thrown away, as
// a port that is not open does, so that who opens it does not get what was true long ago.
const maxUnread = 2048

// forget throws away what nobody reads.
func (c *client) forget() {
	if c.far == nil {
		return
	}
	if n, err := unix.IoctlGetInt(int(c.far.Fd()), unix.TIOCINQ); err == nil && n > maxUnread {
		_ = unix.IoctlSetInt(int(c.far.Fd()), unix.TCFLSH, unix.TCIFLUSH) // it cannot fail on a terminal
	}
}
