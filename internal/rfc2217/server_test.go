package rfc2217

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// server is a device server of the tests: it says yes to everything, unless told otherwise.
type server struct {
	t    *testing.T
	conn net.Conn
	// answer may change the answer to a request of COM-PORT-OPTION; nil says nothing.
	answer func(code byte, body []byte) []byte
	// options changes what is said to an option; nil says nothing.
	options func(verb, option byte) []byte
	// echo says the data back.
	echo bool

	mu       sync.Mutex
	requests []string // of COM-PORT-OPTION: code and body
	data     []byte
	done     chan struct{}
}

// serve starts a server and returns the client's end. The server ends with the connection.
func serve(t *testing.T, change func(*server)) (*server, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	s := &server{t: t, conn: far, done: make(chan struct{})}
	if change != nil {
		change(s)
	}
	go s.run()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close(); <-s.done })
	return s, near
}

func (s *server) run() {
	defer close(s.done)
	var d decoder
	// What is said goes out by a goroutine of its own, as a socket's buffer would have it.
	out := make(chan []byte, 1024)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for b := range out {
			_, _ = s.conn.Write(b)
		}
	}()
	defer func() { close(out); <-sent }()
	buf := make([]byte, 64)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return
		}
		n, err = d.decode(buf[:n], func(c command) error {
			if say := s.command(c); len(say) > 0 {
				out <- say
			}
			return nil
		})
		if err != nil {
			s.t.Error(err)
		}
		s.mu.Lock()
		s.data = append(s.data, buf[:n]...)
		s.mu.Unlock()
		if s.echo && n > 0 {
			out <- appendData(nil, buf[:n])
		}
	}
}

func (s *server) command(c command) []byte {
	switch c.verb {
	case cmdWill, cmdDo:
		if s.options != nil {
			return s.options(c.verb, c.option)
		}
		return agreed(c.verb, c.option)
	case cmdSB:
		s.mu.Lock()
		s.requests = append(s.requests, string(c.body))
		s.mu.Unlock()
		if s.answer != nil {
			return s.answer(c.body[0], c.body[1:])
		}
		return confirmed(c.body[0], c.body[1:])
	}
	return nil
}

// agreed is the yes to an offer or a wish.
func agreed(verb, option byte) []byte {
	if verb == cmdWill {
		return appendOption(nil, cmdDo, option)
	}
	return appendOption(nil, cmdWill, option)
}

func confirmed(code byte, body []byte) []byte { return appendSub(nil, code+answerOffset, body) }

// say sends bytes of the server's own accord.
func (s *server) say(b []byte) {
	_, err := s.conn.Write(b)
	require.NoError(s.t, err)
}

func (s *server) took() ([]string, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...), string(s.data)
}

func rateBody(baud uint32) []byte { return binary.BigEndian.AppendUint32(nil, baud) }

// readAll reads n bytes.
func readAll(t *testing.T, c io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	return b
}
