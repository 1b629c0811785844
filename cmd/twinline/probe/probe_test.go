package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/cmd/twinline/simulate"
	"github.com/twinline/twinline/cmd/twinline/wire"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/simulator"
	modbusdriver "github.com/twinline/twinline/mappers/modbus"
	serialdriver "github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// talker says text once, or answers with it after a while.
func talker(text, question string) wire.Dial {
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
					time.Sleep(40 * time.Millisecond) // in a bubble: by its clock
				}
				for i, part := range strings.Split(text, "~") {
					if i > 0 {
						time.Sleep(2 * time.Second)
					}
					if _, err := io.WriteString(far, part); err != nil {
						return
					}
				}
				_, _ = far.Read(make([]byte, 1)) // until it is closed
			}()
			return near, nil
		}
	}
}

func execute(ctx context.Context, dial wire.Dial, args ...string) (string, error) {
	cmd := NewCommand(map[string]func() mapper.Driver{
		"modbus": func() mapper.Driver { return modbusdriver.New() },
		"serial": func() mapper.Driver { return serialdriver.New() },
	}, dial)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

// probed runs the command in a bubble.
func probed(t *testing.T, dial wire.Dial, args ...string) (out string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { out, err = execute(t.Context(), dial, args...) })
	return out, err
}

const heading = "$GPHDT,123.456,T*32\r\n"

func TestWhatComesIsShownAndNamed(t *testing.T) {
	out, err := probed(t, talker(heading+"~"+heading, ""), "serial:///dev/ttyUSB9?baud=4800")
	require.NoError(t, err)
	require.Contains(t, out, "   0.000  24 47 50 48 44 54 2c 31  32 33 2e 34 35 36 2c 54  |$GPHDT,123.456,T|")
	require.Contains(t, out, "-- 2.000 s --", "silences are shown")
	require.Contains(t, out, "42 bytes, 100 % printable in 10.0 s.")
	require.Contains(t, out, "It looks like NMEA 0183 (profile nmea): 2 of 2 lines have a right NMEA checksum.")
	require.Contains(t, out, "2 frames, 0 damaged, 0 bytes skipped.")
	require.Regexp(t, `HDT.heading +123.456 +deg +good`, out)
}

func TestFramesAreShownByAProfileOrADeclaration(t *testing.T) {
	out, err := probed(t, talker("noise "+heading+"$GPHDT,123.457,T*32\r\n", ""), "/dev/ttyUSB9", "--profile", "nmea")
	require.NoError(t, err)
	require.Contains(t, out, "frame 1, 27 bytes")
	require.Contains(t, out, "not read: read NMEA sentence")
	out, err = probed(t, talker("\x02A1\x03s\x02A2\x03p", ""), "/dev/ttyUSB9", "--framing", `{kind: between, start: "\\x02", end: "\\x03", after: 1}`, "--check", "{kind: xor8, from: 1}")
	require.NoError(t, err)
	require.Contains(t, out, "frame 1, 5 bytes")
	require.Contains(t, out, "It looks like what was declared")
	out, err = probed(t, talker(heading, ""), "/dev/ttyUSB9", "--profile", "dsmr")
	require.NoError(t, err)
	require.Contains(t, out, "No frame of that form was heard")
}

func TestABadFieldHasNoValue(t *testing.T) {
	out, err := probed(t, talker("$GPRMC,123519,V,4807.038,N,01131.000,E,,,230394,003.1,W*71\r\n", ""), "/dev/ttyUSB9", "-o", "json")
	require.NoError(t, err)
	var r lineReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	fields := map[string]field{}
	for _, f := range r.Candidates[0].Fields {
		fields[f.Name] = f
	}
	require.Equal(t, field{Name: "RMC.latitude", Unit: "deg", Quality: "bad:no-fix"}, fields["RMC.latitude"])
	require.Equal(t, field{Name: "RMC.speed", Unit: "kn", Quality: "bad:empty"}, fields["RMC.speed"])
	require.Equal(t, field{Name: "RMC.date", Value: "1994-03-23", Quality: "good"}, fields["RMC.date"])
	require.Equal(t, "nmea", r.Candidates[0].Profile)
	require.Len(t, r.Chunks, 1)
	require.Equal(t, 60, r.Bytes)
}

func TestWhatIsSentIsAnswered(t *testing.T) {
	out, err := probed(t, talker("HEWLETT-PACKARD,34401A,0,11-5-2\n", "*IDN?\n"), "tcp://127.0.0.1:1", "--send", `*IDN?\n`, "--profile", "scpi")
	require.NoError(t, err)
	require.Contains(t, out, "The answer began 40ms after the question.")
	require.Regexp(t, `34401A`, out)
	require.Contains(t, out, "profile scpi")
	out, err = probed(t, talker("S S     100.00 g\r\n", "S\r\n"), "tcp://127.0.0.1:1", "--send", `S\r\n`, "--profile", "sics")
	require.NoError(t, err)
	require.Regexp(t, `weight +100.00`, out)
	out, err = probed(t, talker("ok\n", "\x01\xFF"), "tcp://127.0.0.1:1", "--send-hex", "01 FF", "--raw")
	require.NoError(t, err)
	require.Equal(t, "ok\n", out)
}

func TestSilenceIsAnErrorThatSaysWhatToCheck(t *testing.T) {
	_, err := probed(t, talker("", ""), "/dev/ttyUSB9", "--for", "1s")
	require.ErrorIs(t, err, errSilent)
	require.ErrorContains(t, err, "nothing was heard on serial:///dev/ttyUSB9?baud=9600&parity=none&stop=1&bits=8 in 1s")
	require.ErrorContains(t, err, "twinline scan")
	_, err = probed(t, talker("", "x"), "tcp://127.0.0.1:1", "--send", "x")
	require.ErrorContains(t, err, "its line end")
	require.ErrorContains(t, err, "the device server is set to")
	out, err := probed(t, talker("", ""), "/dev/ttyUSB9", "-o", "json")
	require.ErrorIs(t, err, errSilent)
	require.Contains(t, out, `"bytes":0`)
}

func TestALineThatCannotBeOpenedIsAnError(t *testing.T) {
	_, err := execute(t.Context(), func(serial.Endpoint) serial.Dialer {
		return func(context.Context) (serial.Stream, error) { return nil, errors.New("held by process 4711 (gpsd)") }
	}, "/dev/ttyUSB9")
	require.ErrorContains(t, err, "4711")
}

const manifests = `apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: board, namespace: default}
spec:
  protocol: serial
  properties:
  - {name: temperature, type: DOUBLE, accessMode: ReadOnly, unit: Cel, visitors: {protocolName: serial, configData: {name: TEMP}}}
  - {name: mode, type: STRING, accessMode: ReadOnly, visitors: {protocolName: serial, configData: {name: MODE, enum: {"1": heat}}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: board-1, namespace: default}
spec:
  deviceModelRef: {name: board}
  nodeName: edge-1
  protocol: {protocolName: serial, configData: {url: "serial://LINE?baud=9600", silence: 1s}}
  properties:
  - {name: temperature, collectCycle: 20}
  - {name: mode, collectCycle: 20}
---
apiVersion: twinline.io/v1alpha1
kind: Simulation
metadata: {name: waves}
spec:
  devices:
    default/board-1:
      properties: {temperature: {wave: constant, value: 21.5}, mode: {wave: constant, value: heat}}
`

// simulated plays the manifests, and returns their file.
func simulated(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "devices.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(manifests, "LINE", filepath.Join(dir, "tty"))), 0o600))
	devices, script, problems, err := simulate.Load([]string{file})
	require.NoError(t, err)
	sim, more := simulator.New(devices, script, nil)
	require.Empty(t, append(problems, more...))
	require.NoError(t, sim.Start(t.Context()))
	t.Cleanup(sim.Stop)
	return file
}

func TestADeclaredDeviceIsRead(t *testing.T) {
	file := simulated(t)
	out, err := execute(t.Context(), nil, "-f", file)
	require.NoError(t, err)
	require.Regexp(t, `temperature +21.5 +Cel +good\nmode +heat +good\n`, out)
	out, err = execute(t.Context(), nil, "-f", file, "default/board-1", "-o", "json")
	require.NoError(t, err)
	var r deviceReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, "default/board-1", r.Device)
	require.Equal(t, field{Name: "temperature", Value: "21.5", Unit: "Cel", Quality: "good"}, r.Properties[0].field)
	require.WithinDuration(t, time.Now(), *r.Properties[0].Time, time.Minute)
	out, err = execute(t.Context(), nil, "-f", file, "board-1", "--watch", "--for", "1500ms", "-o", "json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, strings.Count(out, "\n"), 2)
	_, err = execute(t.Context(), nil, "-f", file, "default/bord-1")
	require.ErrorContains(t, err, "did you mean default/board-1?")
}

func TestADeviceThatDoesNotAnswerIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(manifests, "LINE", "/dev/no-such-tty")), 0o600))
	_, err := execute(t.Context(), nil, "-f", file)
	require.ErrorContains(t, err, "read Device default/board-1 (bad:connection)")
	require.ErrorContains(t, err, "/dev/no-such-tty")
	out, err := execute(t.Context(), nil, "-f", file, "--watch", "--for", "1ms")
	require.NoError(t, err, "it is watched")
	require.Contains(t, out, "bad:connection")
}

func TestWrongUse(t *testing.T) {
	for says, args := range map[string][]string{
		"name one line":          {},
		"2 lines or devices":     {"a", "b"},
		"not a URL":              {"nowhere"},
		"did you mean nmea?":     {"/dev/x", "--profile", "nmeaa"},
		"keep one":               {"/dev/x", "--send", "a", "--send-hex", "00"},
		"--send-hex":             {"/dev/x", "--send-hex", "0"},
		"--send:":                {"/dev/x", "--send", `\q`},
		"want text or json":      {"/dev/x", "-o", "xml"},
		"is negative":            {"/dev/x", "--for", "-1s"},
		"--check stands":         {"/dev/x", "--check", "{kind: xor8}"},
		"--watch goes with":      {"/dev/x", "--watch"},
		"--profile goes with":    {"-f", "x", "--profile", "nmea"},
		"--framing: ":            {"/dev/x", "--framing", "{kind: nothing}"},
		"--raw and --output":     {"/dev/x", "--raw", "-o", "json"},
		"no such file":           {"-f", "/no/such/file"},
		"--framing: error conve": {"/dev/x", "--framing", "{"},
	} {
		_, err := execute(t.Context(), talker("", ""), args...)
		require.ErrorContains(t, err, says, "%q", args)
	}
}
