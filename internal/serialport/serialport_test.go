package serialport

import (
	"os"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line returns a pseudo terminal: the far end, and the path of the near one.
func line(t *testing.T) (*os.File, Config) {
	t.Helper()
	far, near, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close(); _ = near.Close() })
	return far, Config{Path: near.Name(), Baud: 115200}
}

func open(t *testing.T, c Config) *Port {
	t.Helper()
	p, err := Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func TestBytesPassBothWaysUnchanged(t *testing.T) {
	far, c := line(t)
	p := open(t, c)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	n, err := p.Write(all)
	require.NoError(t, err)
	require.Equal(t, 256, n)
	got := make([]byte, 0, 256)
	buf := make([]byte, 256)
	for len(got) < 256 {
		n, err := far.Read(buf)
		require.NoError(t, err)
		got = append(got, buf[:n]...)
	}
	require.Equal(t, all, got)
	_, err = far.Write(all)
	require.NoError(t, err)
	for got = got[:0]; len(got) < 256; {
		n, err := p.Read(buf)
		require.NoError(t, err)
		got = append(got, buf[:n]...)
	}
	require.Equal(t, all, got)
}

func TestReadEndsWithItsDeadline(t *testing.T) {
	_, c := line(t)
	p := open(t, c)
	require.NoError(t, p.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
	_, err := p.Read(make([]byte, 8))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, p.SetReadDeadline(time.Time{}))
	ended := make(chan error, 1)
	go func() { _, err := p.Read(make([]byte, 8)); ended <- err }()
	require.NoError(t, p.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
	require.NoError(t, p.SetWriteDeadline(time.Unix(1, 0)))
	_, err = p.Write([]byte{1})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestPendingDoesNotWait(t *testing.T) {
	far, c := line(t)
	p := open(t, c)
	n, err := p.Pending(make([]byte, 8))
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = far.Write([]byte{1, 2})
	require.NoError(t, err)
	n, err = p.Pending(make([]byte, 8))
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

func TestCloseEndsARead(t *testing.T) {
	_, c := line(t)
	p := open(t, c)
	ended := make(chan error, 1)
	go func() { _, err := p.Read(make([]byte, 8)); ended <- err }()
	require.NoError(t, p.Close())
	require.Error(t, <-ended)
	require.NoError(t, p.Close())
}

func TestAnUnpluggedPortIsAnErrorAndOpensAgain(t *testing.T) {
	far, near, err := pty.Open()
	require.NoError(t, err)
	c := Config{Path: near.Name(), Baud: 9600}
	p := open(t, c)
	require.NoError(t, near.Close())
	require.NoError(t, far.Close())
	_, err = p.Read(make([]byte, 8))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = Open(t.Context(), c)
	require.ErrorContains(t, err, c.Path)
}

func TestWrongSettingsAreRefused(t *testing.T) {
	_, c := line(t)
	for _, wrong := range []Config{
		{Path: c.Path, Baud: 9600, Parity: "mark"},
		{Path: c.Path, Baud: 9600, StopBits: 3},
		{Path: c.Path, Baud: 9600, DataBits: 9},
		{Path: "/dev/nothing-there", Baud: 9600},
		{Path: os.DevNull, Baud: 9600},
	} {
		_, err := Open(t.Context(), wrong)
		require.ErrorContains(t, err, "open serial port "+wrong.Path)
	}
	for _, right := range []Config{
		{Path: c.Path, Baud: 9600, Parity: Even, StopBits: 2, DataBits: 7},
		{Path: c.Path, Baud: 250000, Parity: Odd},
	} {
		p, err := Open(t.Context(), right)
		require.NoError(t, err)
		require.NoError(t, p.Close())
	}
}
