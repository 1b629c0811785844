package scan

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/cmd/twinline/validate"
	"github.com/twinline/twinline/internal/serial"
	driver "github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// instrument is a line whose bytes are only right at one setting.
type instrument struct {
	right  string            // what the URL of the setting has
	says   string            // by itself, ten times a second
	answer map[string]string // to what is sent
	opened int
	ended  sync.WaitGroup
}

func (i *instrument) open(e serial.Endpoint) serial.Dialer {
	return func(context.Context) (serial.Stream, error) {
		i.opened++
		near, far := net.Pipe()
		right := strings.Contains(e.String(), i.right)
		i.ended.Go(func() { i.talk(far, right) })
		i.ended.Go(func() { i.reply(far, right); _ = far.Close() })
		return near, nil
	}
}

// talk says what it says until the line is closed.
func (i *instrument) talk(line io.Writer, right bool) {
	text := []byte(i.says)
	noise := rand.New(rand.NewPCG(1, 2))
	for len(text) > 0 {
		if !right {
			for k := range text {
				text[k] = byte(noise.Uint32())
			}
		}
		if _, err := line.Write(text); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // in a bubble: by its clock
	}
}

func (i *instrument) reply(line io.ReadWriter, right bool) {
	buf := make([]byte, 64)
	for {
		n, err := line.Read(buf)
		if err != nil {
			return
		}
		if answer := i.answer[string(buf[:n])]; answer != "" && right {
			if _, err := io.WriteString(line, answer); err != nil {
				return
			}
		}
	}
}

// scanned runs the command in a bubble.
func scanned(t *testing.T, i *instrument, args ...string) (out, progress string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		out, progress, err = execute(t.Context(), i.open, args...)
		i.ended.Wait()
	})
	return out, progress, err
}

func execute(ctx context.Context, dial func(serial.Endpoint) serial.Dialer, args ...string) (out, progress string, err error) {
	cmd := NewCommand(dial)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var o, p bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&p)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
	return o.String(), p.String(), err
}

// requireRight validates a draft with the driver.
func requireRight(t *testing.T, draft string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "draft.yaml")
	require.NoError(t, os.WriteFile(file, []byte(draft), 0o600))
	r, err := validate.Check([]string{file}, nil, map[string]func() mapper.Driver{"serial": func() mapper.Driver { return driver.New() }})
	require.NoError(t, err)
	require.Empty(t, r.Problems, draft)
	require.Equal(t, 1, r.Devices)
}

func TestATalkerIsFoundAtItsRate(t *testing.T) {
	i := &instrument{right: "baud=4800&parity=even&stop=1&bits=8", says: "$GPHDT,123.456,T*32\r\n"}
	out, progress, err := scanned(t, i, "/dev/ttyUSB9")
	require.NoError(t, err)
	require.Contains(t, out, "serial:///dev/ttyUSB9?baud=4800&parity=even&stop=1&bits=8: NMEA 0183")
	require.Contains(t, out, "profile: nmea")
	require.Contains(t, out, "HDT.heading")
	require.Contains(t, progress, "1 of 45, ")
	require.NotContains(t, progress, "asking", "it stops when it is convinced")
	requireRight(t, out)
}

func TestAScaleIsFoundByAsking(t *testing.T) {
	i := &instrument{right: "baud=9600&parity=none", answer: map[string]string{"S\r\n": "S S     100.00 g\r\n"}}
	out, progress, err := scanned(t, i, "/dev/ttyUSB9", "--baud", "2400,9600", "--name", "scale-3", "--namespace", "lab", "--node", "edge-2")
	require.NoError(t, err)
	require.Contains(t, out, "MT-SICS")
	require.Contains(t, out, "name: scale-3")
	require.Contains(t, out, "namespace: lab")
	require.Contains(t, out, "nodeName: edge-2")
	require.Equal(t, 1, strings.Count(progress, "listening"), "a line without a sound is silent at every setting")
	require.Contains(t, progress, "asking sics, sics-number, scpi, enter on")
	requireRight(t, out)
	out, progress, err = scanned(t, i, "/dev/ttyUSB9", "--baud", "9600", "--ask=false")
	require.ErrorContains(t, err, "nothing was found")
	require.ErrorContains(t, err, "--ask=false")
	require.Empty(t, out)
	require.NotContains(t, progress, "asking")
}

func TestAMeterIsReadForItsFields(t *testing.T) {
	i := &instrument{right: "baud=300&parity=even&stop=1&bits=7", answer: map[string]string{
		"/?!\r\n":     "/ABC0meter\r\n",
		"\x06000\r\n": "\x02" + "1.8.0(0012.5*kWh)\r\n0.0.0(12345678)\r\n!\r\n\x03" + "B",
	}}
	out, progress, err := scanned(t, i, "/dev/ttyUSB9", "--baud", "9600,300")
	require.NoError(t, err)
	require.Contains(t, progress, "reading the meter on serial:///dev/ttyUSB9?baud=300")
	require.Contains(t, out, "profile: iec62056")
	require.Contains(t, out, "1.8.0", progress)
	requireRight(t, out)
}

func TestGarbageIsNotNothing(t *testing.T) {
	i := &instrument{right: "baud=230400", says: "$GPHDT,123.456,T*32\r\n"}
	_, _, err := scanned(t, i, "/dev/ttyUSB9", "--ask=false")
	require.ErrorContains(t, err, "something speaks on")
}

func TestTheDraftGoesIntoAFile(t *testing.T) {
	i := &instrument{right: "tcp://", says: "TEMP=20.5 HUM=40\r\n"}
	file := filepath.Join(t.TempDir(), "device.yaml")
	out, _, err := scanned(t, i, "tcp://127.0.0.1:4001", "--write", file)
	require.NoError(t, err)
	require.Contains(t, out, file)
	draft, err := os.ReadFile(file)
	require.NoError(t, err)
	requireRight(t, string(draft))
}

func TestCtrlCEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		i := &instrument{}
		time.AfterFunc(20*time.Second, cancel)
		_, progress, err := execute(ctx, i.open, "/dev/ttyUSB9", "--listen", "1h")
		require.ErrorContains(t, err, "nothing was found on serial:///dev/ttyUSB9?baud=9600&parity=none&stop=1&bits=8 in 20s")
		require.Equal(t, 1, strings.Count(progress, "\n"))
		i.ended.Wait()
	})
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{}, {"nowhere"}, {"/dev/x", "--baud", "1"}, {"/dev/x", "--format", "9N1"}, {"/dev/x", "--format", "8X1"}, {"/dev/x", "--listen", "0s"}} {
		_, _, err := execute(t.Context(), (&instrument{}).open, args...)
		require.Error(t, err, "%q", args)
	}
}
