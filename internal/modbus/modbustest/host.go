package modbustest

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Host serves a Server's clients on a TCP port of this machine.
type Host struct {
	server *Server
	addr   string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	serving  sync.WaitGroup
}

// Listen starts a Host on a free port of 127.0.0.1. Close it.
func Listen(ctx context.Context, s *Server) (*Host, error) {
	h := &Host{server: s, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	return h, h.Mend(ctx)
}

// Addr is host:port.
func (h *Host) Addr() string { return h.addr }

// Mend listens again after a Break.
func (h *Host) Mend(ctx context.Context) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", h.addr)
	if err != nil {
		return fmt.Errorf("modbustest: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener, h.addr = l, l.Addr().String()
	h.serving.Go(func() { h.accept(l) })
	return nil
}

func (h *Host) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.listener != l {
			_ = conn.Close()
		} else {
			h.conns[conn] = true
			h.serving.Go(func() {
				_ = h.server.Serve(conn)
				h.mu.Lock()
				defer h.mu.Unlock()
				delete(h.conns, conn)
			})
		}
		h.mu.Unlock()
	}
}

// Break ends all connections and takes no new ones.
func (h *Host) Break() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener != nil {
		_ = h.listener.Close()
		h.listener = nil
	}
	for conn := range h.conns {
		_ = conn.Close()
	}
}

// Close ends the Host and waits for what it serves.
func (h *Host) Close() {
	h.Break()
	h.serving.Wait()
}

// PTY serves a Server on a pseudo terminal and returns the path of its other
// end, which stays usable until stop is called.
func PTY(s *Server) (path string, stop func(), err error) {
	far, near, err := pty.Open()
	if err != nil {
		return "", nil, fmt.Errorf("modbustest: %w", err)
	}
	if err := raw(near); err != nil {
		_, _ = far.Close(), near.Close()
		return "", nil, fmt.Errorf("modbustest: %w", err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(far) })
	return near.Name(), func() { _, _ = near.Close(), far.Close(); serving.Wait() }, nil
}

// raw makes a terminal pass all bytes as they are, as cfmakeraw(3) does.
func raw(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			failed = err
			return
		}
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	if err != nil {
		return err
	}
	return failed
}
