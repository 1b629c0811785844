package serial

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/twinline/twinline/pkg/twin"
)

// instrument is a home-made board that the tests know: it answers lines, or speaks by itself.
//
//	R <name>          <name>=<text>
//	W <name> <text>   OK <name>, or NO <name>
type instrument struct {
	speaks bool

	mu       sync.Mutex
	values   map[string]string
	refuses  map[string]bool
	silent   bool
	requests int
	prompt   func(question string) (answer string, ok bool) // in place of the answer, where ok
	lines    []io.ReadWriter
}

func newInstrument(speaks bool) *instrument {
	return &instrument{speaks: speaks, values: map[string]string{}, refuses: map[string]bool{}}
}

func (i *instrument) with(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// serve answers on a line until it ends.
func (i *instrument) serve(line io.ReadWriter) {
	i.with(func() { i.lines = append(i.lines, line) })
	done := make(chan struct{})
	var speaking sync.WaitGroup
	if i.speaks {
		speaking.Go(func() { i.speak(line, done) })
	}
	in := bufio.NewScanner(line)
	for in.Scan() {
		if answer := i.answer(strings.TrimSpace(in.Text())); answer != "" {
			if _, err := io.WriteString(line, answer+"\n"); err != nil {
				break
			}
		}
	}
	close(done)
	speaking.Wait()
	i.with(func() { i.lines = slices.DeleteFunc(i.lines, func(l io.ReadWriter) bool { return l == line }) })
}

// sayEvery is how often an instrument that speaks does.
const sayEvery = 3 * time.Millisecond

func (i *instrument) speak(line io.Writer, done <-chan struct{}) {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		i.mu.Lock()
		text := i.sentence()
		if i.silent {
			text = ""
		}
		i.mu.Unlock()
		if text != "" {
			if _, err := io.WriteString(line, text+"\n"); err != nil {
				return
			}
		}
	}
}

// sentence says all values; i.mu is held.
func (i *instrument) sentence() string {
	names := make([]string, 0, len(i.values))
	for name := range i.values {
		names = append(names, name)
	}
	slices.Sort(names)
	text := "S "
	for _, name := range names {
		text += name + "=" + i.values[name] + ";"
	}
	return text
}

func (i *instrument) answer(question string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests++
	if i.silent {
		return ""
	}
	if i.prompt != nil {
		if answer, ok := i.prompt(question); ok {
			return answer
		}
	}
	verb, rest, _ := strings.Cut(question, " ")
	name, text, _ := strings.Cut(rest, " ")
	switch {
	case verb == "R":
		return name + "=" + i.values[name]
	case verb == "W" && i.refuses[name]:
		return "NO " + name
	case verb == "W":
		i.values[name] = text
		return "OK " + name
	}
	return ""
}

// onPTY serves an instrument on a pseudo terminal and returns its path.
func (i *instrument) onPTY(t *testing.T) string {
	t.Helper()
	far, near, err := pty.Open()
	require.NoError(t, err)
	termios, err := unix.IoctlGetTermios(int(near.Fd()), unix.TCGETS)
	require.NoError(t, err)
	termios.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	termios.Iflag &^= unix.ICRNL
	termios.Oflag &^= unix.OPOST
	require.NoError(t, unix.IoctlSetTermios(int(near.Fd()), unix.TCSETS, termios))
	var serving sync.WaitGroup
	serving.Go(func() { i.serve(far) })
	t.Cleanup(func() { _ = far.Close(); _ = near.Close(); serving.Wait() })
	return near.Name()
}

// server is an instrument behind a device server that can be cut off.
type server struct {
	*instrument
	t        *testing.T
	address  string
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	serving  sync.WaitGroup
}

func (i *instrument) onTCP(t *testing.T) *server {
	t.Helper()
	s := &server{instrument: i, t: t}
	s.listen("127.0.0.1:0")
	t.Cleanup(s.cut)
	return s
}

func (s *server) listen(address string) {
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", address)
	require.NoError(s.t, err)
	s.address = l.Addr().String()
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	s.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.serving.Go(func() { s.serve(conn) })
		}
	})
}

// cut closes the listener and all connections.
func (s *server) cut() {
	s.mu.Lock()
	_ = s.listener.Close()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *server) mend() { s.listen(s.address) }

// board declares a device of an instrument with a property of each type.
func board(name, url string, speaks bool) twin.Device {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "serial", Config: map[string]any{"url": url, "timeout": "500ms", "silence": "1s"}}
	requests := map[string]any{}
	for _, p := range []struct {
		name    string
		typ     twin.Type
		visitor map[string]any
	}{
		{"level", twin.TypeDouble, map[string]any{"scale": 0.1}},
		{"total", twin.TypeInt, map[string]any{}},
		{"mode", twin.TypeString, map[string]any{}},
		{"pump", twin.TypeBoolean, map[string]any{"enum": map[string]any{"ON": "true", "OFF": "false"}}},
	} {
		if speaks {
			p.visitor["name"] = p.name
			p.visitor["when"] = map[string]any{"prefix": "S "}
		} else {
			requests[p.name] = map[string]any{"send": "R " + p.name, "reply": map[string]any{"prefix": p.name + "="}}
			p.visitor["request"], p.visitor["regex"] = p.name, "=(.*)"
		}
		p.visitor["write"] = map[string]any{"send": "W " + p.name + " ${value}", "reply": map[string]any{"prefix": "OK " + p.name, "refused": map[string]any{"refused": "^NO " + p.name}}}
		d.Properties = append(d.Properties, twin.Property{Name: p.name, Type: p.typ, Writable: true, Visitor: p.visitor, CollectCycle: time.Second, ReportCycle: time.Second})
	}
	if !speaks {
		d.Config["requests"] = requests
	}
	return d
}

// text is how the instrument writes a value of a board's property.
func text(t *testing.T, d twin.Device, property string, v twin.Value) string {
	t.Helper()
	opened, problems := New().Open(d)
	require.Empty(t, problems)
	defer func() { require.NoError(t, opened.Close()) }()
	said, err := opened.(*conn).command(property, v)
	require.NoError(t, err)
	return said
}

// command returns what stands for the value in the command that sets it.
func (c *conn) command(property string, v twin.Value) (string, error) {
	r, _, err := c.fields[property].Command(&c.decl.Config, v)
	return strings.TrimSpace(strings.TrimPrefix(string(r.Send), "W "+property+" ")), err
}

func fill(i *instrument) {
	i.with(func() {
		i.values["level"], i.values["total"], i.values["mode"], i.values["pump"] = "205", "7", "eco", "ON"
	})
}

func freeName(n int) string { return fmt.Sprintf("board-%d", n) }
