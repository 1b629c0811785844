package demo

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds every wait: the machine may be busy.
const within = time.Minute

// desktop is a demo under test.
type desktop struct {
	t      *testing.T
	args   []string
	url    string
	data   string
	client *http.Client
	out    *output
	stop   context.CancelFunc
	code   chan int
}

// output is what the demo prints; it may be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newDesktop prepares a demo on addresses of the loopback that nothing else uses.
func newDesktop(t *testing.T) *desktop {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	dir := t.TempDir()
	manifests := filepath.Join(dir, "manifests")
	require.NoError(t, putExample("demo", manifests))
	for _, name := range []string{"boiler.yaml", "chillers.yaml", "meters.yaml"} {
		file := filepath.Join(manifests, name)
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		changed := strings.NewReplacer("127.0.0.1", host, "/tmp/twinline-demo", dir).Replace(string(text))
		require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	}
	// The boiler is hot from the start, so that the reaction is due.
	file := filepath.Join(manifests, "simulation.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	hot := strings.Replace(string(text), "{wave: sine, min: 60, max: 95, period: 2m}", `{wave: constant, value: "88.5"}`, 1)
	require.NotEqual(t, string(text), hot)
	require.NoError(t, os.WriteFile(file, []byte(hot), 0o600))
	return &desktop{
		t: t, url: "http://" + host + ":8080", data: filepath.Join(dir, "data"),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second},
		args: []string{
			"--data", filepath.Join(dir, "data"), "--manifests", manifests, "--listen", host + ":8080", "--metrics", host + ":9090",
			"--mqtt", host + ":1883", "--kafka", host + ":9092",
		},
	}
}

func (d *desktop) start() {
	ctx, cancel := context.WithCancel(d.t.Context())
	d.stop, d.code, d.out = cancel, make(chan int, 1), &output{}
	cmd := NewCommand()
	cmd.SetArgs(d.args)
	cmd.SetOut(d.out)
	cmd.SetErr(d.out)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.code <- app.ExitCode(cmd.ExecuteContext(ctx), d.out)
	}()
	d.t.Cleanup(func() { cancel(); <-ended }) // also when the test fails
	d.eventually("the demo is ready", func() error {
		_, err := d.call("GET", "/ready", "")
		return err
	})
}

// end stops the demo as Ctrl-C does.
func (d *desktop) end() {
	d.stop()
	select {
	case code := <-d.code:
		require.Equal(d.t, app.ExitOK, code, d.out.String())
	case <-time.After(within):
		d.t.Fatal("the demo does not stop")
	}
}

func (d *desktop) call(method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	return data, err
}

func (d *desktop) must(method, path, body string) {
	d.t.Helper()
	_, err := d.call(method, path, body)
	require.NoError(d.t, err)
}

// twin returns what the cloud shows of a property, as JSON.
func (d *desktop) twin(device, property string) (string, error) {
	data, err := d.call("GET", "/api/v1/devices/default/"+device, "")
	if err != nil {
		return "", err
	}
	var view struct {
		Properties []struct {
			Name     string
			Reported *struct{ Value json.RawMessage }
		}
	}
	if err := json.Unmarshal(data, &view); err != nil {
		return "", err
	}
	for _, p := range view.Properties {
		if p.Name == property && p.Reported != nil {
			return string(p.Reported.Value), nil
		}
	}
	return "", fmt.Errorf("%s/%s is not reported", device, property)
}

func (d *desktop) eventually(what string, check func() error) {
	d.t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	var stacks bytes.Buffer // where everybody waits: the demo is one process
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	d.t.Fatalf("%s: %v\n%s\n%s", what, err, d.out.String(), stacks.String())
}

func (d *desktop) eventuallyTwin(device, property, want string) {
	d.t.Helper()
	d.eventually(device+"/"+property+" is "+want, func() error {
		got, err := d.twin(device, property)
		if err == nil && got != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

func (d *desktop) spool() (stored, sent uint64, up bool) {
	d.t.Helper()
	data, err := d.call("GET", "/api/v1/spool", "")
	require.NoError(d.t, err)
	var s struct {
		Stored, Sent uint64
		Link         struct{ Up bool }
	}
	require.NoError(d.t, json.Unmarshal(data, &s))
	return s.Stored, s.Sent, s.Link.Up
}

// TestTheWholeStory is the demo as a person plays it: look, set a value, cut the
// link, let the reaction work, heal it, stop, start again.
func TestTheWholeStory(t *testing.T) {
	d := newDesktop(t)
	d.start()
	d.eventuallyTwin("chiller-1", "running", "false")
	d.eventuallyTwin("boiler", "temperature", "88.5")
	d.eventuallyTwin("boiler", "pump", "true") // the reaction
	require.Contains(t, d.out.String(), "in production")

	d.must("PATCH", "/api/v1/devices/default/boiler", `{"desired":{"setpoint":72.5}}`)
	d.eventuallyTwin("boiler", "setpoint", "72.5")
	d.must("PATCH", "/api/v1/devices/default/meter-1", `{"desired":{"relay":true}}`)
	d.eventuallyTwin("meter-1", "relay", "true") // over the serial line
	_, err := d.call("PATCH", "/api/v1/devices/default/boiler", `{"desired":{"setpoint":500}}`)
	require.ErrorContains(t, err, "maximum")

	d.must("POST", "/demo/link", `{"up":false}`)
	d.must("PATCH", "/api/v1/devices/default/chiller-1", `{"desired":{"running":true}}`)
	before, _, _ := d.spool()
	d.eventually("samples are spooled while the link is cut", func() error {
		if stored, sent, _ := d.spool(); stored < before+10 || sent == stored {
			return fmt.Errorf("stored %d, sent %d", stored, sent)
		}
		return nil
	})
	shown, err := d.twin("chiller-1", "running")
	require.NoError(t, err)
	require.Equal(t, "false", shown, "a desired value waits for the link")
	d.must("POST", "/demo/link", `{"up":true}`)
	d.eventuallyTwin("chiller-1", "running", "true")
	d.eventually("everything is sent", func() error {
		if stored, sent, up := d.spool(); !up || sent+5 < stored {
			return fmt.Errorf("up %t, stored %d, sent %d", up, stored, sent)
		}
		return nil
	})
	d.eventually("rows are stored", func() error { return d.moreThan(0) })
	d.end()
	first := d.rows()

	d.start()
	d.eventuallyTwin("boiler", "setpoint", "65.0") // the new device has forgotten; a restart writes nothing
	d.eventually("the second run goes on with the data of the first", func() error { return d.moreThan(first) })
	d.end()
	require.Zero(t, d.doubles())
}

func (d *desktop) moreThan(n int) error {
	if rows := d.rows(); rows <= n {
		return fmt.Errorf("%d rows are stored", rows)
	}
	return nil
}

// rows counts the stored readings.
func (d *desktop) rows() int { return d.query("SELECT count(*) FROM telemetry") }

// doubles counts readings that are stored more than once.
func (d *desktop) doubles() int {
	return d.query("SELECT count(*) FROM (SELECT 1 FROM telemetry WHERE epoch IS NOT NULL GROUP BY device_id, property, epoch, seq HAVING count(*) > 1)")
}

func (d *desktop) query(text string) (n int) {
	d.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(d.data, "storage", "telemetry.db"))
	require.NoError(d.t, err)
	defer db.Close()
	require.NoError(d.t, db.QueryRowContext(d.t.Context(), text).Scan(&n))
	return n
}
