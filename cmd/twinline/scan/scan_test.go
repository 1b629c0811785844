package scan

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	says   string            // by itself
	answer map[string]string // to what is sent
}

func (i *instrument) open(e serial.Endpoint) serial.Dialer {
	return func(context.Context) (serial.Stream, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			buf := make([]byte, 64)
			for {
				if i.says != "" {
					text := []byte(i.says)
					if !strings.Contains(e.String(), i.right) {
						for k := range text {
							text[k] = text[k]*7 ^ byte(k*k) | 0x80 // a wrong rate
						}
					}
					if _, err := far.Write(text); err != nil {
						return
					}
					continue
				}
				n, err := far.Read(buf)
				if err != nil {
					return
				}
				if answer := i.answer[string(buf[:n])]; answer != "" && strings.Contains(e.String(), i.right) {
					if _, err := io.WriteString(far, answer); err != nil {
						return
					}
				}
			}
		}()
		return near, nil
	}
}

func scanned(t *testing.T, i *instrument, args ...string) (out, progress string) {
	t.Helper()
	cmd := NewCommand(i.open)
	var o, p bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&p)
	cmd.SetArgs(append(args, "--listen", "20ms"))
	require.NoError(t, cmd.ExecuteContext(t.Context()))
	return o.String(), p.String()
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
	i := &instrument{right: "baud=4800&parity=none", says: "$GPHDT,123.456,T*32\r\n"}
	out, progress := scanned(t, i, "/dev/ttyUSB9")
	require.Contains(t, out, "serial:///dev/ttyUSB9?baud=4800&parity=none&stop=1&bits=8: NMEA 0183")
	require.Contains(t, out, "profile: nmea")
	require.Contains(t, out, "HDT.heading")
	require.Contains(t, progress, "1 of ")
	require.NotContains(t, progress, "asking", "it stops when it is convinced")
	requireRight(t, out)
}

func TestAScaleIsFoundByAsking(t *testing.T) {
	i := &instrument{right: "baud=9600&parity=none", answer: map[string]string{"S\r\n": "S S     100.00 g\r\n"}}
	out, progress := scanned(t, i, "/dev/ttyUSB9", "--baud", "9600")
	require.Contains(t, out, "MT-SICS")
	require.Contains(t, progress, "asking S of MT-SICS")
	requireRight(t, out)
	out, progress = scanned(t, i, "/dev/ttyUSB9", "--baud", "9600", "--ask=false")
	require.Contains(t, out, "nothing was found")
	require.NotContains(t, progress, "asking")
}

func TestTheDraftGoesIntoAFile(t *testing.T) {
	i := &instrument{right: "tcp://", says: "TEMP=20.5 HUM=40\r\n"}
	file := filepath.Join(t.TempDir(), "device.yaml")
	out, _ := scanned(t, i, "tcp://127.0.0.1:4001", "--write", file)
	require.Contains(t, out, file)
	draft, err := os.ReadFile(file)
	require.NoError(t, err)
	requireRight(t, string(draft))
}

func TestCtrlCReportsWhatWasFound(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := NewCommand((&instrument{}).open)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs([]string{"/dev/ttyUSB9", "--listen", "1h"})
	time.AfterFunc(20*time.Millisecond, cancel)
	require.NoError(t, cmd.ExecuteContext(ctx))
	require.Contains(t, out.String(), "nothing was found")
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{}, {"nowhere"}, {"/dev/x", "--baud", "1"}} {
		cmd := NewCommand((&instrument{}).open)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(args)
		require.Error(t, cmd.ExecuteContext(t.Context()))
	}
}
