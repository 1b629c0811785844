package serialport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// holdEnv makes the test binary a program that opens the port named by it, says so, and keeps it.
const holdEnv = "SERIALPORT_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		hold(path)
	}
	goleak.VerifyTestMain(m)
}

func hold(path string) {
	if _, err := Open(context.Background(), Config{Path: path, Baud: 9600}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

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
		{Path: c.Path, Baud: 9600, DataBits: 4},
		{Path: c.Path, Baud: MinBaud - 1},
		{Path: c.Path, Baud: MaxBaud + 1},
		{Path: c.Path, Baud: 9600, RTS: "high"},
		{Path: "/dev/nothing-there", Baud: 9600},
		{Path: os.DevNull, Baud: 9600},
	} {
		_, err := Open(t.Context(), wrong)
		require.ErrorContains(t, err, "open serial port "+wrong.Path)
	}
	for _, right := range []Config{
		{Path: c.Path, Baud: 9600, Parity: Even, StopBits: 2, DataBits: 7},
		{Path: c.Path, Baud: 250000, Parity: Odd},
		{Path: c.Path, Baud: MinBaud, DataBits: 5},
		{Path: c.Path, Baud: MaxBaud},
	} {
		p, err := Open(t.Context(), right)
		require.NoError(t, err)
		require.NoError(t, p.Close())
	}
}

func TestWhatAPseudoTerminalLacksIsAnErrorWithARemedy(t *testing.T) {
	_, c := line(t)
	for want, change := range map[string]func(*Config){
		"no signal rts":  func(c *Config) { c.RTS = On },
		"no signal dtr":  func(c *Config) { c.DTR = Off },
		"no RS-485 mode": func(c *Config) { c.RS485.Mode = On },
	} {
		wrong := c
		change(&wrong)
		_, err := Open(t.Context(), wrong)
		require.ErrorContains(t, err, "open serial port "+c.Path)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "; leave ")
	}
	c.RS485.Mode = Off
	open(t, c)
}

func TestRS485AsTheKernelHasIt(t *testing.T) {
	for name, test := range map[string]struct {
		in   RS485
		want rs485
	}{
		"off":      {RS485{Mode: Off}, rs485{}},
		"on":       {RS485{Mode: On}, rs485{flags: 0b011}},
		"inverted": {RS485{Mode: On, RTS: Off, Before: time.Millisecond, After: MaxRS485Delay}, rs485{flags: 0b101, before: 1, after: 100}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.in.wire()) })
	}
}

// rate reads the settings of a tty back, through its far end.
func rate(t *testing.T, far *os.File) *unix.Termios {
	t.Helper()
	raw, err := far.SyscallConn()
	require.NoError(t, err)
	var settings *unix.Termios
	require.NoError(t, raw.Control(func(fd uintptr) { settings, err = unix.IoctlGetTermios(int(fd), unix.TCGETS2) }))
	require.NoError(t, err)
	return settings
}

func TestTheLineChangesWhileItIsOpen(t *testing.T) {
	far, c := line(t)
	c.Baud, c.Parity, c.DataBits = 300, Even, 7
	p := open(t, c)
	got := rate(t, far)
	require.EqualValues(t, 300, got.Ospeed)
	require.Zero(t, got.Cflag&unix.CSTOPB) // a pseudo terminal keeps no parity and no size
	for _, baud := range []int{9600, 250000, 300} {
		require.NoError(t, p.SetBaud(baud))
		got = rate(t, far)
		require.EqualValues(t, baud, got.Ospeed)
	}
	require.NoError(t, p.SetMode(Config{Baud: 19200, Parity: Odd, StopBits: 2}))
	require.NoError(t, p.SetBaud(2400))
	got = rate(t, far)
	require.EqualValues(t, 2400, got.Ospeed)
	require.EqualValues(t, unix.PARODD|unix.CSTOPB, got.Cflag&(unix.PARODD|unix.CSTOPB))
	require.ErrorContains(t, p.SetBaud(0), "set up serial port "+c.Path+": 0 baud; use 50")
	require.EqualValues(t, 2400, rate(t, far).Ospeed)
}

func TestARateThatTheDriverDoesNotTakeIsAnError(t *testing.T) {
	far, c := line(t)
	c.Baud = 9600
	open(t, c)
	raw, err := far.SyscallConn()
	require.NoError(t, err)
	for baud, good := range map[int]bool{9600: true, 9888: true, 9321: true, 10000: false, 9300: false, 300: false} {
		require.NoError(t, raw.Control(func(fd uintptr) { err = checkBaud(int(fd), baud) }))
		if good {
			require.NoError(t, err, baud)
			continue
		}
		require.ErrorContains(t, err, "its driver took 9600 baud in place of "+strconv.Itoa(baud))
	}
}

func TestAReadThatWaitsEndsWhenThePortIsUnplugged(t *testing.T) {
	far, near, err := pty.Open()
	require.NoError(t, err)
	p := open(t, Config{Path: near.Name(), Baud: 9600})
	require.NoError(t, near.Close())
	waits, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		b := make([]byte, 1)
		if _, err := p.Read(b); err != nil {
			ended <- err
			return
		}
		close(waits)
		_, err := p.Read(b)
		ended <- err
	}()
	_, err = far.Write([]byte{1})
	require.NoError(t, err)
	<-waits
	require.NoError(t, far.Close())
	err = <-ended
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = p.Pending(make([]byte, 1))
	require.Error(t, err)
	_, err = p.Write([]byte{1})
	require.Error(t, err)
}

func TestALinkIsFollowedAtEachOpen(t *testing.T) {
	link := filepath.Join(t.TempDir(), "usb-Instrument-if00-port0")
	for range 2 { // the second is replugged: another number below the same name
		far, near, err := pty.Open()
		require.NoError(t, err)
		require.NoError(t, os.Symlink(near.Name(), link))
		p, err := Open(t.Context(), Config{Path: link, Baud: 9600})
		require.NoError(t, err)
		_, err = far.Write([]byte{7})
		require.NoError(t, err)
		n, err := p.Read(make([]byte, 2))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NoError(t, near.Close())
		require.NoError(t, far.Close())
		_, err = p.Read(make([]byte, 2))
		require.ErrorContains(t, err, link)
		require.NoError(t, p.Close())
		require.NoError(t, os.Remove(link))
	}
	_, err := Open(t.Context(), Config{Path: link, Baud: 9600})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestASecondOpenInTheSameProcessIsRefused(t *testing.T) {
	_, c := line(t)
	p, err := Open(t.Context(), c)
	require.NoError(t, err)
	_, err = Open(t.Context(), c)
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, c.Path, busy.Path)
	require.Equal(t, os.Getpid(), busy.PID)
	require.ErrorContains(t, err, "this process has it open already")
	require.NoError(t, p.Close())
	open(t, c)
}

// holding starts a process that has the port open, until its stdin is closed.
func holding(t *testing.T, path string) (*exec.Cmd, io.Closer) {
	t.Helper()
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), holdEnv+"="+path)
	stdin, err := holder.StdinPipe()
	require.NoError(t, err)
	stdout, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	said, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", said)
	return holder, stdin
}

func TestWhoHoldsThePortIsNamed(t *testing.T) {
	far, near, err := pty.Open() // which this process has open without a lock, as a simulator would
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close(); _ = near.Close() })
	c := Config{Path: near.Name(), Baud: 9600}
	holder, stdin := holding(t, c.Path)
	_, err = Open(t.Context(), c)
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, holder.Process.Pid, busy.PID)
	require.NotEmpty(t, busy.Command)
	require.Equal(t, fmt.Sprintf("open serial port %s: held by process %d (%s); stop it or give it another port", c.Path, busy.PID, busy.Command), err.Error())

	require.NoError(t, holder.Process.Kill()) // kill -9 leaves no lock
	require.NoError(t, stdin.Close())
	require.Error(t, holder.Wait())
	// The mark of TIOCEXCL stays on a pseudo terminal, and only root passes it: a simulator takes it back as well.
	require.NoError(t, unix.IoctlSetInt(int(near.Fd()), unix.TIOCNXCL, 0))
	open(t, c)
}

func TestAnOwnerThatCannotBeSeenIsSaidToBe(t *testing.T) {
	_, c := line(t)
	require.Zero(t, owner(t.TempDir(), c.Path, true))
	require.Zero(t, owner("/proc", "/dev/nothing-there", true))
	require.ErrorContains(t, error(&BusyError{Path: "/dev/ttyS9"}), "open serial port /dev/ttyS9: held by a process that cannot be seen from here")
	require.EqualError(t, error(&BusyError{Path: "/dev/ttyS9", PID: 1 << 30}), "open serial port /dev/ttyS9: held by process 1073741824; stop it or give it another port")
}

func TestUUCPLockFiles(t *testing.T) {
	_, c := line(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "LCK..pts_"+filepath.Base(c.Path))
	require.Zero(t, lockedBy(dir, c.Path))
	holder, stdin := holding(t, c.Path)
	_, elsewhere := line(t)
	other, otherStdin := holding(t, elsewhere.Path)
	for text, want := range map[string]int{
		"":                                       0,
		"gpsd":                                   0,
		"-1":                                     0,
		fmt.Sprintf("%10d\n", os.Getpid()):       0,
		fmt.Sprintf("%10d\n", other.Process.Pid): 0, // alive, but does not have it open
		fmt.Sprintf("%10d\n", holder.Process.Pid): holder.Process.Pid,
		fmt.Sprintf("%10d\n", 1<<30):              0, // gone
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		require.Equal(t, want, lockedBy(dir, c.Path), "%q", text)
	}
	require.NoError(t, stdin.Close())
	require.NoError(t, holder.Wait())
	require.NoError(t, otherStdin.Close())
	require.NoError(t, other.Wait())
}

func TestDrainEndsWithTheWriteDeadline(t *testing.T) {
	_, c := line(t)
	p := open(t, c)
	require.NoError(t, p.drain())
	require.NoError(t, p.expired())
	require.NoError(t, p.SetWriteDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, p.expired(), os.ErrDeadlineExceeded)
}

func TestAWriteThatWaitsEndsWithItsDeadline(t *testing.T) {
	_, c := line(t)
	p := open(t, c)
	require.NoError(t, p.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	n, err := p.Write(make([]byte, 1<<20)) // nobody reads it
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Less(t, n, 1<<20)
	_, err = p.Read(nil)
	require.NoError(t, err)
	require.False(t, errors.Is(p.Close(), os.ErrDeadlineExceeded))
}
