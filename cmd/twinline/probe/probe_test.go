package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/serial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// talker says text once, or answers with it.
func talker(text, question string) Opener {
	return func(serial.Endpoint) serial.Dialer {
		return func(context.Context) (serial.Stream, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				if question != "" {
					buf := make([]byte, len(question))
					if _, err := io.ReadFull(far, buf); err != nil || string(buf) != question {
						return
					}
				}
				_, _ = io.WriteString(far, text)
				_, _ = far.Read(make([]byte, 1)) // until it is closed
			}()
			return near, nil
		}
	}
}

func probed(t *testing.T, open Opener, args ...string) string {
	t.Helper()
	cmd := NewCommand(open)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(append(args, "--for", "50ms"))
	require.NoError(t, cmd.ExecuteContext(t.Context()))
	return out.String()
}

func TestWhatComesIsShownAndNamed(t *testing.T) {
	out := probed(t, talker("$GPHDT,123.456,T*32\r\n", ""), "serial:///dev/ttyUSB9?baud=4800")
	require.Contains(t, out, "listening on serial:///dev/ttyUSB9?baud=4800")
	require.Contains(t, out, "24 47 50 48 44 54 2c 31 32 33 2e 34 35 36 2c 54  $GPHDT,123.456,T")
	require.Contains(t, out, "NMEA 0183")
	require.Contains(t, out, `frame "$GPHDT,123.456,T*32`)
	require.Contains(t, out, "HDT.heading                  123.456 deg")
}

func TestWhatIsSentIsAnswered(t *testing.T) {
	out := probed(t, talker("HEWLETT-PACKARD,34401A,0,11-5-2\n", "*IDN?\n"), "tcp://127.0.0.1:1", "--send", `*IDN?\n`)
	require.Contains(t, out, "34401A")
	out = probed(t, talker("ok\n", "\x01\xFF"), "tcp://127.0.0.1:1", "--send-hex", "01 FF")
	require.Contains(t, out, "6f 6b 0a")
}

func TestSilenceSaysWhatToCheck(t *testing.T) {
	require.Contains(t, probed(t, talker("", ""), "/dev/ttyUSB9"), "try --send, or twinline scan")
	require.Contains(t, probed(t, talker("", "x"), "/dev/ttyUSB9", "--send", "x"), "handshake")
	require.Contains(t, probed(t, talker("$GPHDT,123.456,T*32\r\n", ""), "/dev/ttyUSB9", "--profile", "dsmr"), "the profile dsmr does not fit")
}

func TestALineThatCannotBeOpenedIsAnError(t *testing.T) {
	cmd := NewCommand(func(serial.Endpoint) serial.Dialer {
		return func(context.Context) (serial.Stream, error) { return nil, errors.New("held by process 4711 (gpsd)") }
	})
	cmd.SetOut(&bytes.Buffer{})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"/dev/ttyUSB9"})
	require.ErrorContains(t, cmd.ExecuteContext(t.Context()), "4711")
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{}, {"a", "b"}, {"nowhere"}, {"/dev/x", "--profile", "nmeaa"}, {"/dev/x", "--send", "a", "--send-hex", "00"}, {"/dev/x", "--send-hex", "0"}, {"/dev/x", "--send", `\q`}} {
		cmd := NewCommand(talker("", ""))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(args)
		require.Error(t, cmd.ExecuteContext(t.Context()), "%q", args)
	}
}
