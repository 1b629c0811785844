package modbus

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// pender is a Stream that can say without waiting what has come in.
type pender interface {
	// Pending reads what is there already; (0, nil) means nothing.
	Pending(p []byte) (int, error)
}

// netStream is a network connection with Pending.
type netStream struct{ net.Conn }

// Pending implements pender. A closed connection shows in the next Read.
func (s netStream) Pending(p []byte) (int, error) {
	raw, err := s.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	var readErr error
	err = raw.Control(func(fd uintptr) {
		n, _, readErr = syscall.Recvfrom(int(fd), p, syscall.MSG_DONTWAIT)
	})
	if err != nil {
		return 0, err
	}
	if errors.Is(readErr, syscall.EAGAIN) || errors.Is(readErr, syscall.EINTR) {
		return 0, nil
	}
	return max(n, 0), os.NewSyscallError("recvfrom", readErr)
}
