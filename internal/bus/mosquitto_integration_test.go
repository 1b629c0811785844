//go:build integration

package bus_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/bus"
)

// mosquitto is the real broker in a process of its own.
type mosquitto struct {
	t    *testing.T
	path string
	conf string
	port int
	cmd  *exec.Cmd
}

func startMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // Debian; not in every PATH
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	help, _ := exec.CommandContext(t.Context(), path, "-h").Output() // exits 3
	version, _, _ := strings.Cut(string(help), "\n")
	t.Attr("real", version)
	m := &mosquitto{t: t, path: path, port: l.Addr().(*net.TCPAddr).Port}
	require.NoError(t, l.Close())
	dir := t.TempDir()
	m.conf = filepath.Join(dir, "mosquitto.conf")
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location %s/\nmax_queued_messages 100000\n", m.port, dir)
	require.NoError(t, os.WriteFile(m.conf, []byte(conf), 0o600))
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) url() string { return fmt.Sprintf("tcp://127.0.0.1:%d", m.port) }

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.path, "-c", m.conf)
	require.NoError(m.t, m.cmd.Start(), "mosquitto is needed: apt-get install mosquitto")
	require.Eventually(m.t, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond, "mosquitto listens")
}

func (m *mosquitto) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	_ = m.cmd.Wait()
}

// Restarts of the broker in the middle of a stream lose nothing that Publish has confirmed, and a
// single publisher's order holds but for repeats.
func TestRestartOfMosquittoLosesNothingConfirmed(t *testing.T) {
	broker := startMosquitto(t)
	sub := bus.New(bus.Config{URL: broker.url(), ClientID: "reader", Persistent: true})
	var in inbox
	_, err := sub.Subscribe("stream/+", in.take)
	require.NoError(t, err)
	require.NoError(t, sub.Start(t.Context()))
	t.Cleanup(sub.Stop)
	eventually(t, "subscribed", sub.Connected)

	pub := start(t, bus.Config{URL: broker.url()})
	const publishers, each = 4, 5000
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := pub.Publish(within(t), fmt.Sprint("stream/", p), fmt.Appendf(nil, "%d %d", p, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 {
		seen := pub.Stats().Published
		eventually(t, "progress", func() bool { return pub.Stats().Published > seen+publishers*each/10 })
		broker.stop()
		broker.start()
	}
	wg.Wait()
	require.GreaterOrEqual(t, pub.Stats().Connects, uint64(4), "the restarts were in the middle")

	eventually(t, "every confirmed message arrives", func() bool {
		seen := map[string]bool{}
		for _, m := range in.all() {
			seen[m] = true
		}
		return len(seen) == publishers*each
	})
}

func TestMosquittoKeepsASessionForAReaderThatIsAway(t *testing.T) {
	broker := startMosquitto(t)
	cfg := bus.Config{URL: broker.url(), ClientID: "reader", Persistent: true}
	first := bus.New(cfg)
	var in inbox
	_, err := first.Subscribe("a", in.take)
	require.NoError(t, err)
	require.NoError(t, first.Start(t.Context()))
	eventually(t, "subscribed", first.Connected)
	first.Stop()
	pub := start(t, bus.Config{URL: broker.url()})
	for i := range 2 * bus.MaxQueued {
		require.NoError(t, pub.Publish(within(t), "a", []byte(fmt.Sprint(i))))
	}
	require.NoError(t, first.Start(t.Context()))
	t.Cleanup(first.Stop)
	eventually(t, "all came", func() bool { return len(in.all()) >= 2*bus.MaxQueued })
	require.Empty(t, first.Stats().Dropped)
}
