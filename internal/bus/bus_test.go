package bus_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/internal/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end at once when all is well.
const patience = 30 * time.Second

func start(t *testing.T, cfg bus.Config) *bus.Client {
	t.Helper()
	c := bus.New(cfg)
	require.NoError(t, c.Start(t.Context()))
	t.Cleanup(c.Stop)
	return c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, patience, time.Millisecond, what)
}

// inbox collects messages.
type inbox struct {
	mu   sync.Mutex
	got  []string
	hook func()
}

func (i *inbox) take(_ string, payload []byte) {
	if i.hook != nil {
		i.hook()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, string(payload))
}

func (i *inbox) all() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string(nil), i.got...)
}

func TestClientKeepsTheServiceContract(t *testing.T) {
	broker := bustest.Start(t)
	servicetest.Stress(t, bus.New(bus.Config{URL: broker.URL()}))
}

func TestClientWithoutABrokerKeepsTheServiceContract(t *testing.T) {
	servicetest.Stress(t, bus.New(bus.Config{URL: "tcp://127.0.0.1:1"}))
}

func TestStartRefusesAWrongConfig(t *testing.T) {
	for name, cfg := range map[string]bus.Config{
		"scheme":             {URL: "http://127.0.0.1"},
		"no host":            {URL: "tcp://"},
		"path":               {URL: "tcp://127.0.0.1/x"},
		"unreadable":         {URL: "tcp://a b:secret@%zz"},
		"persistent unnamed": {Persistent: true},
		"long id":            {ClientID: string(make([]byte, bus.MaxClientIDLength+1))},
	} {
		err := bus.New(cfg).Start(t.Context())
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestMessagesArriveInOrder(t *testing.T) {
	broker := bustest.Start(t)
	c := start(t, bus.Config{URL: broker.URL()})
	eventually(t, "connected", c.Connected)
	var in inbox
	_, err := c.Subscribe("twinline/telemetry/+/+", in.take)
	require.NoError(t, err)
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprint(i))
		require.NoError(t, c.Publish(within(t), "twinline/telemetry/ns/d", []byte(want[i])))
	}
	eventually(t, "all there", func() bool { return len(in.all()) == len(want) })
	require.Equal(t, want, in.all())
	require.EqualValues(t, len(want), c.Stats().Published)
	require.Zero(t, c.Stats().InFlight)
}

func TestStartsWithoutABrokerAndFindsItLater(t *testing.T) {
	broker := bustest.Start(t)
	broker.Stop()
	c := start(t, bus.Config{URL: broker.URL()})
	connects := make(chan struct{}, 8)
	c.OnConnect(func() { connects <- struct{}{} })
	var in inbox
	_, err := c.Subscribe("a", in.take)
	require.NoError(t, err)

	brief, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Publish(brief, "a", []byte("given up")), context.Canceled)
	require.False(t, c.Connected())

	published := make(chan error, 1)
	go func() { published <- c.Publish(within(t), "a", []byte("waited")) }()
	require.NoError(t, broker.Start())
	require.NoError(t, <-published)
	<-connects
	eventually(t, "delivered", func() bool { return len(in.all()) == 1 })
	require.Equal(t, []string{"waited"}, in.all())
}

func TestNothingConfirmedIsLostOverOutages(t *testing.T) {
	broker := bustest.Start(t)
	c := start(t, bus.Config{URL: broker.URL()})
	var in inbox
	_, err := c.Subscribe("a/#", in.take)
	require.NoError(t, err)
	const publishers, each = 8, 50
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := c.Publish(within(t), "a/b", fmt.Appendf(nil, "%d-%d", p, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		seen := c.Stats().Published
		eventually(t, "progress", func() bool { return c.Stats().Published > seen+20 || c.Stats().Published == publishers*each })
		broker.Restart(t)
	}
	wg.Wait()
	// This broker keeps no session, so a message that it confirmed may be lost between it and the
	// subscriber; what must hold is that publishers and subscriptions go on.
	require.EqualValues(t, publishers*each, c.Stats().Published)
	require.NoError(t, c.Publish(within(t), "a/last", []byte("last")))
	eventually(t, "delivery goes on", func() bool { got := in.all(); return len(got) > 0 && got[len(got)-1] == "last" })
}

func TestUnsubscribeEndsDelivery(t *testing.T) {
	broker := bustest.Start(t)
	c := start(t, bus.Config{URL: broker.URL()})
	eventually(t, "connected", c.Connected)
	var first, second inbox
	un, err := c.Subscribe("a", first.take)
	require.NoError(t, err)
	_, err = c.Subscribe("a", second.take)
	require.NoError(t, err)
	un()
	un()
	require.NoError(t, c.Publish(within(t), "a", []byte("x")))
	eventually(t, "second has it", func() bool { return len(second.all()) == 1 })
	require.Empty(t, first.all())
	_, err = c.Subscribe("b/+", func(string, []byte) {})
	require.NoError(t, err)
}

func TestSubscribeBounds(t *testing.T) {
	c := bus.New(bus.Config{})
	_, err := c.Subscribe("a/#/b", func(string, []byte) {})
	require.ErrorIs(t, err, bus.ErrFilter)
	for i := range bus.MaxSubscriptions {
		_, err := c.Subscribe(fmt.Sprint("t/", i), func(string, []byte) {})
		require.NoError(t, err)
	}
	_, err = c.Subscribe("one/more", func(string, []byte) {})
	require.ErrorIs(t, err, bus.ErrTooMany)
}

func TestPublishBounds(t *testing.T) {
	c := bus.New(bus.Config{})
	require.ErrorIs(t, c.Publish(t.Context(), "a/+", nil), bus.ErrTopic)
	require.ErrorIs(t, c.Publish(t.Context(), "a", make([]byte, bus.MaxPayload+1)), bus.ErrPayload)

	broker := bustest.Start(t)
	c = start(t, bus.Config{URL: broker.URL()})
	require.NoError(t, c.Publish(within(t), "a", make([]byte, bus.MaxPayload)))
}

func TestRetainedMessagesReachLaterSubscribers(t *testing.T) {
	broker := bustest.Start(t)
	c := start(t, bus.Config{URL: broker.URL()})
	require.NoError(t, c.PublishRetained(within(t), "twinline/link/n", []byte("up")))
	var in inbox
	_, err := c.Subscribe("twinline/link/+", in.take)
	require.NoError(t, err)
	eventually(t, "retained", func() bool { return len(in.all()) == 1 })
}

// A handler that hangs loses its own oldest messages, and nobody else's.
func TestASlowHandlerHarmsNobodyElse(t *testing.T) {
	broker := bustest.Start(t)
	reg := prometheus.NewRegistry()
	c := start(t, bus.Config{URL: broker.URL(), Registry: reg})
	eventually(t, "connected", c.Connected)
	stuck := make(chan struct{})
	slow := inbox{hook: func() { <-stuck }}
	var quick inbox
	_, err := c.Subscribe("x/slow", slow.take)
	require.NoError(t, err)
	_, err = c.Subscribe("x/quick", quick.take)
	require.NoError(t, err)
	const extra = 10
	for i := range bus.MaxQueued + 1 + extra {
		require.NoError(t, c.Publish(within(t), "x/slow", []byte(fmt.Sprint(i))))
	}
	require.NoError(t, c.Publish(within(t), "x/quick", []byte("q")))
	eventually(t, "quick is served", func() bool { return len(quick.all()) == 1 })
	eventually(t, "drops are counted", func() bool { return c.Stats().Dropped["x/slow"] >= extra })
	close(stuck)
	eventually(t, "the rest is served", func() bool {
		return len(slow.all()) >= bus.MaxQueued
	})
	got := slow.all()
	require.Equal(t, fmt.Sprint(bus.MaxQueued+extra), got[len(got)-1], "the newest is kept")
	dropped := c.Stats().Dropped["x/slow"]
	require.EqualValues(t, bus.MaxQueued+1+extra, uint64(len(got))+dropped)
	n, err := testutil.GatherAndCount(reg, "twinline_bus_dropped_total", "twinline_bus_connected", "twinline_bus_in_flight")
	require.NoError(t, err)
	require.Equal(t, 3, n)
}

// What comes while a persistent client is away waits for it, and so does what its handler had not finished.
func TestPersistentSessionLosesNothingOverARestart(t *testing.T) {
	broker := bustest.Start(t)
	cfg := bus.Config{URL: broker.URL(), ClientID: "uplink-n1", Persistent: true}
	stuck := make(chan struct{})
	first := bus.New(cfg)
	var got inbox
	hang := inbox{hook: func() { <-stuck }}
	_, err := first.Subscribe("a", hang.take)
	require.NoError(t, err)
	require.NoError(t, first.Start(t.Context()))
	eventually(t, "connected", first.Connected)

	other := start(t, bus.Config{URL: broker.URL()})
	for i := range 10 {
		require.NoError(t, other.Publish(within(t), "a", []byte(fmt.Sprint(i))))
	}
	eventually(t, "received", func() bool { return first.Stats().Received == 10 })
	stopped := make(chan struct{})
	go func() { first.Stop(); close(stopped) }()
	eventually(t, "disconnected", func() bool { return !first.Connected() })
	close(stuck)
	<-stopped
	for i := range 10 {
		require.NoError(t, other.Publish(within(t), "a", []byte(fmt.Sprint(10+i))))
	}
	// This broker confirms a message before it has handed it on, but one after another.
	require.NoError(t, other.Publish(within(t), "b", nil))
	second := bus.New(cfg)
	_, err = second.Subscribe("a", got.take)
	require.NoError(t, err)
	require.NoError(t, second.Start(t.Context()))
	t.Cleanup(second.Stop)
	eventually(t, "all twenty, but for what the first has handled", func() bool {
		seen := map[string]bool{}
		for _, m := range append(hang.all(), got.all()...) {
			seen[m] = true
		}
		return len(seen) == 20
	})
}

// A slow handler of a persistent session makes the broker wait, and loses nothing.
func TestASlowHandlerOfAPersistentSessionMakesTheBrokerWait(t *testing.T) {
	broker := bustest.Start(t)
	cfg := bus.Config{URL: broker.URL(), ClientID: "uplink-n1", Persistent: true}
	c := bus.New(cfg)
	stuck := make(chan struct{})
	in := inbox{hook: func() { <-stuck }}
	_, err := c.Subscribe("a", in.take)
	require.NoError(t, err)
	require.NoError(t, c.Start(t.Context()))
	t.Cleanup(c.Stop)
	eventually(t, "connected", c.Connected)
	other := start(t, bus.Config{URL: broker.URL()})
	const extra = 200
	for i := range bus.MaxQueued + extra {
		require.NoError(t, other.Publish(within(t), "a", []byte(fmt.Sprint(i))))
	}
	eventually(t, "the queue is full", func() bool { return c.Stats().Received >= bus.MaxQueued })
	close(stuck)
	eventually(t, "all are there", func() bool { return len(in.all()) == bus.MaxQueued+extra })
	for i, got := range in.all() {
		require.Equal(t, fmt.Sprint(i), got)
	}
	require.Empty(t, c.Stats().Dropped)
	require.EqualValues(t, 1, c.Stats().Connects)
}

// A handler that does not return loses the connection; when it does return, all comes again.
func TestAStalledPersistentSessionHeals(t *testing.T) {
	broker := bustest.Start(t)
	c := bus.New(bus.Config{URL: broker.URL(), ClientID: "uplink-n1", Persistent: true})
	c.SetStall(50 * time.Millisecond)
	stuck := make(chan struct{})
	in := inbox{hook: func() { <-stuck }}
	_, err := c.Subscribe("a", in.take)
	require.NoError(t, err)
	require.NoError(t, c.Start(t.Context()))
	t.Cleanup(c.Stop)
	eventually(t, "connected", c.Connected)
	other := start(t, bus.Config{URL: broker.URL()})
	const extra = 10
	for i := range bus.MaxQueued + extra {
		require.NoError(t, other.Publish(within(t), "a", []byte(fmt.Sprint(i))))
	}
	eventually(t, "given up", func() bool { return c.Stats().Connects > 1 || !c.Connected() })
	close(stuck)
	eventually(t, "every message was handled", func() bool {
		seen := map[string]bool{}
		for _, m := range in.all() {
			seen[m] = true
		}
		return len(seen) == bus.MaxQueued+extra
	})
	require.Empty(t, c.Stats().Dropped, "what comes again is not dropped")
}

// A handler may use the client in every way without a deadlock.
func TestHandlersAndHooksMayUseTheClient(t *testing.T) {
	broker := bustest.Start(t)
	ctx := within(t)
	c := bus.New(bus.Config{URL: broker.URL()})
	var pong atomic.Int64
	c.OnConnect(func() {
		if _, err := c.Subscribe("pong", func(string, []byte) { pong.Add(1) }); err != nil {
			t.Error(err)
		}
		if err := c.Publish(ctx, "ping", nil); err != nil {
			t.Error(err)
		}
	})
	var un func()
	un, err := c.Subscribe("ping", func(string, []byte) {
		un()
		if err := c.Publish(ctx, "pong", nil); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, err)
	require.NoError(t, c.Start(t.Context()))
	t.Cleanup(c.Stop)
	eventually(t, "pong", func() bool { return pong.Load() == 1 })
}

// mute accepts connections and MQTT's CONNECT, and then says nothing more.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var conns sync.Map
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(conn, nil)
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte{0x20, 2, 0, 0})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		conns.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
	})
	return "tcp://" + l.Addr().String()
}

// Against a broker that never confirms, callers get away with their context, the window
// holds, and Stop ends.
func TestABrokerThatDoesNotConfirm(t *testing.T) {
	c := start(t, bus.Config{URL: mute(t)})
	eventually(t, "connected", c.Connected)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range bus.MaxInFlight + 50 {
		wg.Go(func() {
			if err := c.Publish(ctx, "a", nil); err == nil {
				t.Error("confirmed by nobody")
			}
		})
	}
	eventually(t, "window is full", func() bool { return c.Stats().InFlight == bus.MaxInFlight })
	cancel()
	wg.Wait()
	require.Equal(t, bus.MaxInFlight, c.Stats().InFlight, "given up is not out of flight")
	c.Stop()
	require.Zero(t, c.Stats().InFlight)
}
