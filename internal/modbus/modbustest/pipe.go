package modbustest

import (
	"bytes"
	"io"
	"net"
	"sync"
)

// Pipe returns the two ends of a line that holds what was sent until it is
// read, as a network or a serial port does; net.Pipe alone would block the sender. Close both.
func Pipe() (net.Conn, io.ReadWriteCloser) {
	near, far := net.Pipe()
	p := &pipe{far: far}
	p.wake.L = &p.mu
	p.pumps.Go(func() { p.pump(&p.in, func(b []byte) (int, error) { return far.Read(b) }) })
	p.pumps.Go(p.flush)
	return near, p
}

type pipe struct {
	far     net.Conn
	mu      sync.Mutex
	wake    sync.Cond
	in, out bytes.Buffer
	closed  bool
	pumps   sync.WaitGroup
}

func (p *pipe) pump(into *bytes.Buffer, read func([]byte) (int, error)) {
	b := make([]byte, 1024)
	for {
		n, err := read(b)
		p.mu.Lock()
		into.Write(b[:n])
		p.closed = p.closed || err != nil
		p.mu.Unlock()
		p.wake.Broadcast()
		if err != nil {
			return
		}
	}
}

func (p *pipe) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.out.Len() == 0 && !p.closed {
			p.wake.Wait()
		}
		if p.out.Len() == 0 {
			_ = p.far.Close()
			return
		}
		b := bytes.Clone(p.out.Bytes())
		p.out.Reset()
		p.mu.Unlock()
		_, err := p.far.Write(b)
		p.mu.Lock()
		if err != nil {
			p.closed = true
			p.out.Reset()
		}
	}
}

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.in.Len() == 0 && !p.closed {
		p.wake.Wait()
	}
	return p.in.Read(b) // io.EOF when empty
}

// Write implements io.Writer.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, io.ErrClosedPipe
	}
	p.wake.Broadcast()
	return p.out.Write(b)
}

// Close delivers what was written, then ends the line.
func (p *pipe) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wake.Broadcast()
	p.pumps.Wait()
	return nil
}
