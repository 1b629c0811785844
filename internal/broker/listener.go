package broker

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// listener is mochi's TCP listener, but for that Close waits for what Serve has
// started: mochi's own one races with connections that are just being made.
type listener struct {
	net     net.Listener
	serving sync.WaitGroup // Serve and every connection

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

var _ listeners.Listener = (*listener)(nil)

func listen(address string) (*listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return &listener{net: l, conns: map[net.Conn]struct{}{}}, nil
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return "tcp" }
func (l *listener) Protocol() string        { return "tcp" }
func (l *listener) Address() string         { return l.net.Addr().String() }

// Serve hands every connection to establish, until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.net.Accept()
		if err != nil || !l.track(conn) {
			return
		}
		go func() {
			defer l.serving.Done()
			defer l.untrack(conn)
			_ = establish(l.ID(), conn) // its error is that the client went away
		}()
	}
}

func (l *listener) track(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return false
	}
	l.serving.Add(1)
	l.conns[conn] = struct{}{}
	return true
}

func (l *listener) untrack(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = conn.Close()
	delete(l.conns, conn)
}

// cut breaks every connection.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// Close implements listeners.Listener.
func (l *listener) Close(listeners.CloseFn) {
	_ = l.net.Close()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cut()
	l.serving.Wait()
}
