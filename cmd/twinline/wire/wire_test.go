package wire

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/identify"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/serialport"
	driver "github.com/twinline/twinline/mappers/serial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a line whose far end is played by far.
func open(t *testing.T, far func(net.Conn)) *Line {
	t.Helper()
	var ended sync.WaitGroup
	t.Cleanup(ended.Wait)
	line, err := Open(t.Context(), serial.Endpoint{Scheme: serial.TCP, Address: "h:1"}, func(serial.Endpoint) serial.Dialer {
		return func(context.Context) (serial.Stream, error) {
			near, other := net.Pipe()
			ended.Go(func() { defer other.Close(); far(other) })
			return near, nil
		}
	})
	require.NoError(t, err)
	return line
}

// ticks writes b every interval, n times, and then waits for the end.
func ticks(b string, every time.Duration, n int) func(net.Conn) {
	return func(c net.Conn) {
		for range n {
			time.Sleep(every)
			if _, err := io.WriteString(c, b); err != nil {
				return
			}
		}
		_, _ = c.Read(make([]byte, 1))
	}
}

func TestHearingEnds(t *testing.T) {
	for name, test := range map[string]struct {
		far     func(net.Conn)
		hearing Hearing
		after   time.Duration
		bytes   int
	}{
		"when its time is over":     {ticks("ab", time.Second, 10), Hearing{For: 3500 * time.Millisecond}, 3500 * time.Millisecond, 6},
		"when nothing comes at all": {ticks("", 0, 0), Hearing{For: 3 * time.Second, Quiet: time.Second}, 3 * time.Second, 0},
		"when a burst is over":      {ticks("ab", 100*time.Millisecond, 3), Hearing{For: time.Hour, Quiet: time.Second}, 1300 * time.Millisecond, 6},
		"when it is enough":         {ticks("ab", 100*time.Millisecond, 100), Hearing{For: time.Hour, Enough: 5}, 300 * time.Millisecond, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := open(t, test.far)
				heard, err := line.Hear(t.Context(), test.hearing)
				require.NoError(t, err)
				require.Equal(t, test.after, time.Since(line.Start))
				n := 0
				for _, c := range heard {
					n += len(c.Data)
				}
				require.Equal(t, test.bytes, n)
				require.NoError(t, line.Close())
			})
		})
	}
}

func TestHearingEndsWithItsContextAndWithTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := open(t, ticks("ab", time.Second, 100))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2500*time.Millisecond, cancel)
		heard, err := line.Hear(ctx, Hearing{})
		require.NoError(t, err)
		require.Len(t, heard, 2)
		require.NoError(t, line.Close())
	})
	synctest.Test(t, func(t *testing.T) {
		line := open(t, func(c net.Conn) { _, _ = io.WriteString(c, "ab") })
		heard, err := line.Hear(t.Context(), Hearing{For: time.Hour})
		require.ErrorIs(t, err, io.EOF)
		require.Len(t, heard, 1, "what came before is not lost")
		require.NoError(t, line.Close())
	})
}

func TestSilencesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := open(t, ticks("ab", time.Second, 2))
		var told []int
		_, err := line.Hear(t.Context(), Hearing{For: 5 * time.Second, Took: func(c serial.Chunk) { told = append(told, len(c.Data)) }})
		require.NoError(t, err)
		require.Equal(t, []int{2, 0, 2, 0}, told)
		require.NoError(t, line.Close())
	})
}

func TestOnlyTheLastBytesAreKept(t *testing.T) {
	line := open(t, ticks(string(make([]byte, 4096)), 0, 3*identify.MaxBytes/4096))
	n := 0
	heard, err := line.Hear(t.Context(), Hearing{For: time.Minute, Took: func(c serial.Chunk) { n += len(c.Data) }, Enough: identify.MaxBytes})
	require.NoError(t, err)
	require.Equal(t, identify.MaxBytes, n)
	require.NotEmpty(t, heard)
	require.NoError(t, line.Close())
}

func TestDropAndRetune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := open(t, ticks("ab", 0, 3))
		synctest.Wait()
		done, err := line.Retune(serialport.Config{Baud: 300})
		require.NoError(t, err)
		require.False(t, done, "a stream without settings is to be opened anew")
		require.NoError(t, line.Drop())
		heard, err := line.Hear(t.Context(), Hearing{For: time.Second})
		require.NoError(t, err)
		require.Empty(t, heard)
		require.NoError(t, line.Close())
	})
}

func TestTargets(t *testing.T) {
	usual, _ := serial.Usual("")
	for text, want := range map[string]string{
		"/dev/ttyUSB0":              "serial:///dev/ttyUSB0?baud=9600&parity=none&stop=1&bits=8",
		"/dev/ttyUSB0?baud=300":     "serial:///dev/ttyUSB0?baud=300&parity=none&stop=1&bits=8",
		"serial:///dev/x?baud=1200": "serial:///dev/x?baud=1200&parity=none&stop=1&bits=8",
		"tcp://h:1":                 "tcp://h:1",
	} {
		e, err := Target(text, usual)
		require.NoError(t, err)
		require.Equal(t, want, e.String())
	}
	_, err := Target("nowhere", usual)
	require.Error(t, err)
}

func TestAnOpeningThatFailsNamesTheLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close()) // nobody is there
	usual, _ := serial.Usual("")
	for target, names := range map[string]string{
		"tcp://" + address: address, "rfc2217://" + address: address, "/dev/no-such-tty": "/dev/no-such-tty",
	} {
		e, err := Target(target, usual)
		require.NoError(t, err)
		_, err = Open(t.Context(), e, driver.Dial)
		require.ErrorContains(t, err, names)
	}
	busy := &serialport.BusyError{Path: "/dev/x", PID: 4711, Command: "gpsd"}
	_, err = Open(t.Context(), serial.Endpoint{}, func(serial.Endpoint) serial.Dialer {
		return func(context.Context) (serial.Stream, error) { return nil, busy }
	})
	require.Equal(t, busy, err)
}
