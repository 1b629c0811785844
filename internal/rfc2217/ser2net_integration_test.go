//go:build integration

package rfc2217

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const realServer = "ser2net 4.3.11 (Debian)"

// deviceServer is a ser2net whose serial port is a pseudo terminal.
type deviceServer struct {
	rfc2217, raw string   // addresses
	far          *os.File // the instrument's end
	config       string
	process      *exec.Cmd
}

func startServer(t *testing.T) *deviceServer {
	t.Helper()
	far, near, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close(); _ = near.Close() })
	s := &deviceServer{rfc2217: freeAddress(t), raw: freeAddress(t), far: far, config: filepath.Join(t.TempDir(), "ser2net.yaml")}
	text := ""
	for _, c := range []struct{ name, accepter, address string }{{"far", "telnet(rfc2217)", s.rfc2217}, {"raw", "", s.raw}} {
		host, port, err := net.SplitHostPort(c.address)
		require.NoError(t, err)
		accepter := "tcp," + host + "," + port
		if c.accepter != "" {
			accepter = c.accepter + "," + accepter
		}
		text += fmt.Sprintf("connection: &%s\n  accepter: %s\n  connector: serialdev,%s,9600n81,local\n", c.name, accepter, near.Name())
	}
	require.NoError(t, os.WriteFile(s.config, []byte(text), 0o600))
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

func (s *deviceServer) start(t *testing.T) {
	t.Helper()
	s.process = exec.Command("ser2net", "-n", "-d", "-c", s.config)
	s.process.Stderr = os.Stderr
	require.NoError(t, s.process.Start())
}

func (s *deviceServer) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// dial dials until the server is up.
func (s *deviceServer) dial(t *testing.T, settings Settings) *Conn {
	t.Helper()
	var c *Conn
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var err error
		if c, err = Dial(ctx, s.rfc2217, settings); err != nil {
			t.Log(err)
		}
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// termios is how the server has set its port.
func (s *deviceServer) termios(t *testing.T) *unix.Termios {
	t.Helper()
	raw, err := s.far.SyscallConn()
	require.NoError(t, err)
	var got *unix.Termios
	require.NoError(t, raw.Control(func(fd uintptr) { got, err = unix.IoctlGetTermios(int(fd), unix.TCGETS2) }))
	require.NoError(t, err)
	return got
}

// bothWays passes all bytes in both directions.
func (s *deviceServer) bothWays(t *testing.T, c interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
},
) {
	t.Helper()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	_, err := c.Write(all)
	require.NoError(t, err)
	require.Equal(t, all, readAll(t, s.far, len(all)))
	_, err = s.far.Write(all)
	require.NoError(t, err)
	require.Equal(t, all, readAll(t, c, len(all)))
}

func TestSer2netIsSetAndPassesAllBytes(t *testing.T) {
	t.Attr("real", realServer)
	s := startServer(t)
	c := s.dial(t, Settings{Baud: 300, StopBits: 2})
	require.EqualValues(t, 300, s.termios(t).Ospeed)
	require.NotZero(t, s.termios(t).Cflag&unix.CSTOPB)
	for _, baud := range []int{9600, 115200, 2400} {
		require.NoError(t, c.SetBaud(baud))
		require.EqualValues(t, baud, s.termios(t).Ospeed)
		s.bothWays(t, c)
	}
	require.NoError(t, c.Close())
}

func TestSer2netTakesAnyRate(t *testing.T) {
	t.Attr("real", realServer)
	s := startServer(t)
	c := s.dial(t, Settings{Baud: 9600})
	require.NoError(t, c.SetBaud(12345))
	require.EqualValues(t, 12345, s.termios(t).Ospeed)
}

func TestSer2netRestarted(t *testing.T) {
	t.Attr("real", realServer)
	s := startServer(t)
	c := s.dial(t, Settings{Baud: 9600})
	s.bothWays(t, c)
	s.stop()
	_, err := c.Read(make([]byte, 8))
	require.ErrorContains(t, err, "read "+s.rfc2217)
	require.NoError(t, c.Close())
	_, err = Dial(t.Context(), s.rfc2217, Settings{Baud: 9600})
	require.ErrorContains(t, err, "open rfc2217 port "+s.rfc2217)
	s.start(t)
	s.bothWays(t, s.dial(t, Settings{Baud: 19200}))
}

func TestSer2netRaw(t *testing.T) {
	t.Attr("real", realServer)
	s := startServer(t)
	var c net.Conn
	require.Eventually(t, func() bool {
		var err error
		c, err = net.Dial("tcp", s.raw)
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	s.bothWays(t, c)
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { // until the server has let its port go
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Dial(ctx, s.raw, Settings{Baud: 9600})
		require.Error(t, err)
		return errors.Is(err, ErrNoComPort)
	}, 20*time.Second, 50*time.Millisecond)
}
