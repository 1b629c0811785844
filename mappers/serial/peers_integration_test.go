//go:build integration

package serial

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

// These tests run against programs that others wrote: Debian's gpsfake with gpsd,
// ser2net and socat. A missing one is a failure.

// start runs a program until the end of the test or until stop is called.
func start(t *testing.T, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	stop = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // with what it has started
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", name, said.String())
		}
	})
	t.Cleanup(stop)
	return stop
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// log writes sentences of a receiver that moves, and returns the file.
func writeLog(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	sentence := func(text string) {
		sum := byte(0)
		for _, c := range []byte(text) {
			sum ^= c
		}
		fmt.Fprintf(&b, "$%s*%02X\r\n", text, sum)
	}
	for i := range 30 {
		at := time.Now().UTC().Add(time.Duration(i) * time.Second)
		sentence(fmt.Sprintf("GPRMC,%s.00,A,4807.038,N,01131.000,W,022.4,084.4,%s,003.1,W", at.Format("150405"), at.Format("020106")))
		sentence(fmt.Sprintf("GPGGA,%s.00,4807.038,N,01131.000,W,1,08,0.9,545.4,M,46.9,M,,", at.Format("150405")))
	}
	name := filepath.Join(t.TempDir(), "track.nmea")
	require.NoError(t, os.WriteFile(name, b.Bytes(), 0o600))
	return name
}

// receiver declares a GPS receiver.
func receiver(url string, config map[string]any) twin.Device {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "gps"}, Protocol: "serial", Config: map[string]any{"url": url, "profile": "nmea", "timeout": "5s"}}
	for key, v := range config {
		d.Config[key] = v
	}
	for name, field := range map[string]string{"latitude": "RMC.latitude", "longitude": "RMC.longitude", "speed": "RMC.speed", "altitude": "GGA.altitude"} {
		d.Properties = append(d.Properties, twin.Property{Name: name, Type: twin.TypeDouble, Visitor: map[string]any{"field": field}})
	}
	return d
}

// requireTrack reads a receiver until it has said everything.
func requireTrack(t *testing.T, c *conn) {
	t.Helper()
	want := map[string]float64{"latitude": 48.1173, "longitude": -11.51666667, "speed": 22.4, "altitude": 545.4}
	got := map[string]twin.Reading{}
	require.Eventually(t, func() bool {
		readings, err := c.Read(t.Context(), []string{"latitude", "longitude", "speed", "altitude"})
		if err != nil {
			return false
		}
		for _, r := range readings {
			if r.Quality != mapper.NothingNew {
				got[r.Property] = r
			}
		}
		return len(got) == len(want)
	}, mappertest.Patience, 20*time.Millisecond, "the receiver says everything")
	for name, v := range want {
		require.True(t, got[name].Quality.IsGood(), "%s is %s", name, got[name].Quality)
		require.Equal(t, twin.FloatValue(v), got[name].Value, name)
		require.WithinDuration(t, time.Now(), got[name].Time, time.Minute, "%s has the time of its sentence", name)
	}
}

func TestAReceiverPlayedByGpsfake(t *testing.T) {
	t.Attr("real", "gpsfake and gpsd of Debian, NMEA over TCP")
	port := freePort(t)
	start(t, "gpsfake", "-q", "-n", "-c", "0.05", "-P", fmt.Sprint(port), writeLog(t))
	requireTrack(t, open(t, New(), receiver(fmt.Sprintf("tcp://127.0.0.1:%d", port), map[string]any{
		"init": []any{map[string]any{"send": `?WATCH={"enable":true,"raw":1}`, "reply": map[string]any{"none": true}}},
	})))
}

func TestAReceiverPlayedByGpsfakeOnATTY(t *testing.T) {
	t.Attr("real", "gpsfake and gpsd of Debian, NMEA on a pty of socat")
	tty := filepath.Join(t.TempDir(), "gps")
	play := fmt.Sprintf(`gpsfake -q -c 0.05 -P %d -r '?WATCH={"json":false,"nmea":true}' -p '%s' | socat -u - 'pty,raw,echo=0,link=%s,wait-slave'`, freePort(t), writeLog(t), tty)
	start(t, "sh", "-c", play)
	requireTrack(t, open(t, New(), receiver("serial://"+tty, nil)))
}

// behindSer2net serves a board through ser2net and returns the port of the device server.
func behindSer2net(t *testing.T, accepter string) (*instrument, int) {
	t.Helper()
	dir := t.TempDir()
	i := newInstrument(false)
	fill(i)
	tty, port := i.onPTY(t), freePort(t)
	config := filepath.Join(dir, "ser2net.yaml")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf("connection: &board\n  accepter: %s,127.0.0.1,%d\n  connector: serialdev,%s,9600n81,local\n  options: {kickolduser: true}\n", accepter, port, tty)), 0o600))
	start(t, "ser2net", "-n", "-c", config)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, mappertest.Patience, 20*time.Millisecond, "ser2net listens")
	return i, port
}

func TestABoardBehindSer2net(t *testing.T) {
	for scheme, accepter := range map[string]string{"tcp": "tcp", "rfc2217": "telnet(rfc2217),tcp"} {
		t.Run(scheme, func(t *testing.T) {
			t.Attr("real", "ser2net of Debian, "+scheme)
			i, port := behindSer2net(t, accepter)
			d := board("board", fmt.Sprintf("%s://127.0.0.1:%d", scheme, port), false)
			d.Config["timeout"] = "2s"
			c := open(t, New(), d)
			var readings []twin.Reading
			require.Eventually(t, func() bool {
				var err error
				readings, err = c.Read(t.Context(), []string{"level", "total", "mode", "pump"})
				return err == nil
			}, mappertest.Patience, 50*time.Millisecond)
			require.Equal(t, twin.FloatValue(20.5), readings[0].Value)
			require.Equal(t, twin.IntValue(7), readings[1].Value)
			require.Equal(t, twin.StringValue("eco"), readings[2].Value)
			require.Equal(t, twin.BoolValue(true), readings[3].Value)
			held, err := c.Write(t.Context(), "level", twin.FloatValue(33.3))
			require.NoError(t, err)
			require.Equal(t, twin.FloatValue(33.3), held)
			i.with(func() { require.Equal(t, "333", i.values["level"]) })
			readings, err = c.Read(t.Context(), []string{"level"})
			require.NoError(t, err)
			require.Equal(t, held, readings[0].Value)
		})
	}
}
