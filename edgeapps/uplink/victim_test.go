package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

// victimEnv makes the test binary an uplink process that runs until it is
// killed: its value is {"Bus","Cloud","Dir"}.
const victimEnv = "UPLINK_TEST_VICTIM"

type victimConfig struct{ Bus, Cloud, Dir string }

// runVictim reports false in the test process; in the victim it does not return.
func runVictim() bool {
	text := os.Getenv(victimEnv)
	if text == "" {
		return false
	}
	if err := victim(text); err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		os.Exit(1)
	}
	select {}
}

func victim(text string) error {
	var cfg victimConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	sender, err := forward.NewHTTPS(cfg.Cloud, "", "")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	client := bus.New(bus.Config{URL: cfg.Bus, ClientID: "uplink", Persistent: true, Log: log})
	up, err := New(Config{Node: "edge-1", Dir: cfg.Dir, Linger: 20 * time.Millisecond, BatchRecords: 100, Rate: 100}, Deps{
		Bus: client, Sender: sender, Log: log,
		Open: func() (Store, error) { return spool.Open(spool.Config{Dir: cfg.Dir, MaxBytes: 64 << 20}) },
	})
	if err != nil {
		return err
	}
	if err := up.Start(context.Background()); err != nil {
		return err
	}
	return client.Start(context.Background())
}

// fakeMapper publishes samples of some devices and sends again what is not acknowledged.
type fakeMapper struct {
	client *bus.Client

	mu    sync.Mutex
	last  map[string]uint64
	acked map[twin.DeviceID]uint64
}

func (m *fakeMapper) onAck(_ string, payload []byte) {
	var ack twin.Ack
	if json.Unmarshal(payload, &ack) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range ack.Acks {
		m.acked[id] = max(m.acked[id], p.Seq)
	}
}

// pending returns how many samples wait for their acknowledgement.
func (m *fakeMapper) pending() (n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for device, last := range m.last {
		n += last - m.acked[device1(device)]
	}
	return n
}

// publish takes one new sample of a device.
func (m *fakeMapper) publish(t *testing.T, device string) {
	m.mu.Lock()
	m.last[device]++
	seq := m.last[device]
	m.mu.Unlock()
	m.send(t, device, seq)
}

func (m *fakeMapper) send(t *testing.T, device string, seq uint64) {
	s := sampleOf(device, 1, seq)
	require.NoError(t, m.client.Publish(t.Context(), twin.TelemetryTopic(s.Device), s.AppendJSON(nil)))
}

func (m *fakeMapper) resend(t *testing.T) {
	m.mu.Lock()
	var due []twin.Sample
	for device, last := range m.last {
		for seq := m.acked[device1(device)] + 1; seq <= last; seq++ {
			due = append(due, sampleOf(device, 1, seq))
		}
	}
	m.mu.Unlock()
	for _, s := range due {
		m.send(t, s.Device.Name, s.Seq)
	}
}

// serveCloud answers batches, and every third time forgets to.
func serveCloud(t *testing.T, c *cloud) string {
	calls := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return // the victim was killed while it sent
		}
		b, err := c.codec.Decode(data)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		calls++
		c.stored = append(c.stored, b.Samples...)
		if calls%3 == 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(forward.EncodeAck(forward.Ack{Stream: b.Stream, Last: b.Last}))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestKilledAgainAndAgain kills a whole uplink process at any moment, between a
// real bus and a cloud that loses answers. What mappers saw acknowledged, and in the end all
// they published, reaches the cloud.
func TestKilledAgainAndAgain(t *testing.T) {
	broker := bustest.Start(t)
	c := newCloud()
	cfg, err := json.Marshal(victimConfig{Bus: broker.URL(), Cloud: serveCloud(t, c), Dir: t.TempDir()})
	require.NoError(t, err)
	client := bus.New(bus.Config{URL: broker.URL(), ClientID: "mapper"})
	m := &fakeMapper{client: client, last: map[string]uint64{}, acked: map[twin.DeviceID]uint64{}}
	_, err = client.Subscribe(twin.AllAcks, m.onAck)
	require.NoError(t, err)
	require.NoError(t, client.Start(t.Context()))
	t.Cleanup(client.Stop)

	for round := range 8 {
		process := startVictim(t, string(cfg))
		for n := range 100 + 60*round {
			m.publish(t, string(rune('a'+n%3)))
			time.Sleep(time.Millisecond) // the kill is to come at any moment of the victim's work
		}
		require.NoError(t, process.Process.Kill())
		_ = process.Wait()
		m.resend(t)
	}
	process := startVictim(t, string(cfg))
	defer func() { _ = process.Process.Kill(); _ = process.Wait() }()
	require.Eventually(t, func() bool { return m.pending() == 0 }, time.Minute, 100*time.Millisecond)
	complete := func() bool {
		got := c.distinct(t)
		for device, last := range m.last {
			if uint64(len(got["plant/"+device])) != last {
				return false
			}
		}
		return true
	}
	require.Eventually(t, complete, time.Minute, 100*time.Millisecond, "what was acknowledged is in the cloud")
}

func startVictim(t *testing.T, cfg string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	process := exec.Command(self)
	process.Env = append(os.Environ(), victimEnv+"="+cfg)
	process.Stderr = os.Stderr
	require.NoError(t, process.Start())
	return process
}
