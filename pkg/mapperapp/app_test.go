package mapperapp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mapperapp"
	"github.com/twinline/twinline/pkg/twin"
)

const manifest = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: room, namespace: default}
spec:
  protocol: file
  properties:
  - {name: temperature, type: DOUBLE, accessMode: ReadWrite, minimum: "0", maximum: "100"}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: attic, namespace: default}
spec:
  deviceModelRef: {name: room}
  nodeName: edge-1
  protocol:
    protocolName: file
    configData: {folder: %q}
  properties:
  - name: temperature
    collectCycle: 50
    reportCycle: 1000
    reportToCloud: true
    desired: {value: %q}
    visitors: {protocolName: file, configData: {file: temperature}}
`

// desk is what a file-mapper needs to run.
type desk struct {
	t         *testing.T
	broker    *bustest.Broker
	folder    string
	manifests string
	state     string
	api       string
	metrics   string
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, broker: bustest.Start(t), folder: t.TempDir(), manifests: t.TempDir(), state: filepath.Join(t.TempDir(), "state"), api: freeAddress(t), metrics: freeAddress(t)}
	d.put("20.5")
	d.declare("21.5")
	return d
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (d *desk) put(temperature string) {
	require.NoError(d.t, os.WriteFile(filepath.Join(d.folder, "temperature"), []byte(temperature), 0o600))
}

func (d *desk) get() string {
	b, err := os.ReadFile(filepath.Join(d.folder, "temperature"))
	require.NoError(d.t, err)
	return string(b)
}

func (d *desk) declare(desired string) {
	require.NoError(d.t, os.WriteFile(filepath.Join(d.manifests, "attic.yaml"), fmt.Appendf(nil, manifest, d.folder, desired), 0o600))
}

// run runs the mapper on the manifests; stop ends it and returns what it logged.
func (d *desk) run() (stop func() string) {
	return d.runWith("--manifests", d.manifests, "--state", d.state)
}

func (d *desk) runWith(args ...string) (stop func() string) {
	ctx, cancel := context.WithCancel(d.t.Context())
	var log bytes.Buffer
	var wg sync.WaitGroup
	code := -1
	wg.Go(func() {
		code = fileMapper().Run(ctx, append(args, "--bus", d.broker.URL(), "--node", "edge-1", "--listen", d.api, "--metrics", d.metrics), io.Discard, &log)
	})
	return func() string {
		cancel()
		wg.Wait()
		require.Zero(d.t, code, log.String())
		return log.String()
	}
}

func fileMapper() mapperapp.Options {
	return mapperapp.Options{Name: "file-mapper", Summary: "Serve files as devices", New: func(mapperapp.Runtime) (mapper.Driver, error) { return files{}, nil }}
}

func (d *desk) fetch(address, path string) (status int, body string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// patience bounds failures only.
const patience = 20 * time.Second

func (d *desk) eventually(what string, ok func() bool) {
	d.t.Helper()
	require.Eventually(d.t, ok, patience, 20*time.Millisecond, what)
}

func TestABinaryServesItsDevices(t *testing.T) {
	d := newDesk(t)
	listener := bus.New(bus.Config{URL: d.broker.URL()})
	require.NoError(t, listener.Start(t.Context()))
	defer listener.Stop()
	samples := make(chan twin.Sample, 1000)
	_, err := listener.Subscribe(twin.AllTelemetry, func(_ string, payload []byte) {
		var s twin.Sample
		if s.UnmarshalJSON(payload) == nil {
			select {
			case samples <- s:
			default:
			}
		}
	})
	require.NoError(t, err)

	stop := d.run()
	d.eventually("the desired value of a new device is written", func() bool { return d.get() == "21.5" })
	s := <-samples
	require.Equal(t, "default/attic", s.Device.String())
	require.NotZero(t, s.Epoch)
	d.eventually("ready", func() bool { status, _ := d.fetch(d.api, "/ready"); return status == http.StatusOK })
	d.eventually("the API knows the device", func() bool {
		_, body := d.fetch(d.api, "/api/v1/devices")
		var got struct{ Devices []mapper.DeviceStatus }
		require.NoError(t, json.Unmarshal([]byte(body), &got), body)
		return len(got.Devices) == 1 && got.Devices[0].State == twin.Online && len(got.Devices[0].Writes) == 1 && got.Devices[0].Writes[0].State == twin.Applied
	})
	_, body := d.fetch(d.api, "/api/v1/problems")
	require.JSONEq(t, `{"problems":[]}`, body)
	_, body = d.fetch(d.metrics, "/metrics")
	require.Contains(t, body, `twinline_mapper_devices{state="online"} 1`)
	require.Contains(t, body, `twinline_mapper_writes_total{state="applied"} 1`)

	d.declare("500")
	d.eventually("a problem is shown", func() bool {
		_, body := d.fetch(d.api, "/api/v1/problems")
		return strings.Contains(body, "above the maximum 100") || strings.Contains(body, "500")
	})
	d.broker.Stop()
	d.eventually("ready tells the truth", func() bool {
		status, body := d.fetch(d.api, "/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "no connection to the broker")
	})
	require.NotContains(t, stop(), "level=ERROR")
}

func TestARestartWritesNothing(t *testing.T) {
	d := newDesk(t)
	stop := d.run()
	d.eventually("the desired value of a new device is written", func() bool { return d.get() == "21.5" })
	d.eventually("and dealt with", func() bool {
		b, _ := os.ReadFile(filepath.Join(d.state, "desired/default/attic"))
		return strings.Contains(string(b), "21.5")
	})
	stop()
	d.put("99")
	kept, err := os.ReadFile(filepath.Join(d.state, "epoch"))
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(kept), "\n")
	var first struct{ Epoch uint64 }
	require.NoError(t, json.Unmarshal([]byte(body), &first))
	stop = d.run()
	d.eventually("polled in the second epoch", func() bool {
		_, body := d.fetch(d.api, "/api/v1/devices")
		return strings.Contains(body, fmt.Sprintf(`"epoch":%d`, first.Epoch+1)) && strings.Contains(body, `"online"`)
	})
	stop()
	require.Equal(t, "99", d.get())
}

func TestReadyWaitsForMetaServer(t *testing.T) {
	d := newDesk(t)
	nobody := "http://" + freeAddress(t)
	stop := d.runWith("--metaserver", nobody)
	d.eventually("ready names what is missing", func() bool {
		status, body := d.fetch(d.api, "/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "MetaServer at "+nobody+" has not answered") && !strings.Contains(body, "broker")
	})
	require.Contains(t, stop(), "nothing is kept on disk", "a mapper without --state says what that means")
}

func TestConfigurationErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--twin-rate", "0"}, "twin-rate"},
		{[]string{"--twin-rate", "31"}, "twin-rate"},
		{[]string{"--metaserver", "ftp://x"}, "metaserver"},
		{[]string{"--bus", "ftp://x"}, "ftp"},
		{[]string{"--state", "/dev/null/x"}, "state"},
		{[]string{"--manifests", "/no/such/folder"}, "/no/such/folder"},
	} {
		var stderr bytes.Buffer
		code := fileMapper().Run(t.Context(), append(c.args, "--listen", "", "--metrics", ""), io.Discard, &stderr)
		require.Equal(t, 2, code, "%v: %s", c.args, stderr.String())
		require.Contains(t, stderr.String(), c.want)
	}
}

func TestADriverThatCannotBeMade(t *testing.T) {
	o := fileMapper()
	o.New = func(mapperapp.Runtime) (mapper.Driver, error) { return nil, fmt.Errorf("no licence") }
	var stderr bytes.Buffer
	require.Equal(t, 1, o.Run(t.Context(), []string{"--listen", "", "--metrics", ""}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "make the driver: no licence")
}

func TestHelpShowsAnExample(t *testing.T) {
	var out bytes.Buffer
	require.Zero(t, fileMapper().Run(t.Context(), []string{"--help"}, &out, io.Discard))
	require.Contains(t, out.String(), "file-mapper --node edge-1 --state /var/lib/file-mapper")
	require.Contains(t, out.String(), "TWINLINE_TWIN_RATE")
}
