//go:build integration

package serialport

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// lockingSocat is a socat that has the port open and locked.
func lockingSocat(t *testing.T, path string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	holder := exec.Command("socat", path+",raw,echo=0,flock-ex-nb", "-")
	stdin, err := holder.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	return holder, stdin
}

func TestSocatThatHoldsThePortIsNamed(t *testing.T) {
	t.Attr("real", "socat 1.7.4 (Debian), which locks by flock")
	far, c := line(t)
	holder, stdin := lockingSocat(t, c.Path)
	_, err := stdin.Write([]byte{7})
	require.NoError(t, err)
	_, err = far.Read(make([]byte, 1)) // it has the port
	require.NoError(t, err)
	_, err = Open(t.Context(), c)
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, BusyError{Path: c.Path, PID: holder.Process.Pid, Command: "socat"}, *busy)
	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())
	require.Eventually(t, func() bool {
		p, err := Open(t.Context(), c)
		return err == nil && p.Close() == nil
	}, 20*time.Second, 10*time.Millisecond)
}

// TestWhoHasThePortOpenWithoutALockIsNamed takes a terminal of Linux that is none of the pseudo
// terminals, of which the far end may have the near one open, too.
func TestWhoHasThePortOpenWithoutALockIsNamed(t *testing.T) {
	t.Attr("real", "a virtual console of Linux")
	const console = "/dev/tty60"
	file, err := os.OpenFile(console, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	holder := exec.Command("sleep", "600")
	holder.Stdin = file
	require.NoError(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill() }) // where the test fails
	require.NoError(t, file.Close())
	_, err = Open(t.Context(), Config{Path: console, Baud: 9600})
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, BusyError{Path: console, PID: holder.Process.Pid, Command: "sleep"}, *busy)
	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())
	p, err := Open(t.Context(), Config{Path: console, Baud: 9600})
	require.False(t, errors.As(err, &busy), "%v", err)
	if err == nil {
		require.NoError(t, p.Close())
	}
}

func TestSocatFindsOurPortLocked(t *testing.T) {
	t.Attr("real", "socat 1.7.4 (Debian), which locks by flock")
	_, c := line(t)
	open(t, c)
	holder, stdin := lockingSocat(t, c.Path)
	require.Error(t, holder.Wait())
	_ = stdin.Close()
}
