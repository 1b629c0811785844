package metaserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/metaserver"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

var _ mapper.Source = (*metaserver.Source)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const model = `{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceModel",
"metadata":{"name":"boiler","namespace":"plant","uid":"m","resourceVersion":"%d"},
"spec":{"protocol":"modbus","properties":[{"name":"setpoint","type":"INT","accessMode":"ReadWrite"}]}}`

// device returns the JSON of a device with a desired value.
func device(name, node, protocol, desired string) string {
	return fmt.Sprintf(`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device",
"metadata":{"name":%q,"namespace":"plant","uid":"u-%s","resourceVersion":"%%d","managedFields":[{"manager":"kubectl"}]},
"spec":{"nodeName":%q,"deviceModelRef":{"name":"boiler"},"protocol":{"protocolName":%q,"configData":{"url":"tcp://10.0.0.1:502"}},
"properties":[{"name":"setpoint","reportToCloud":true,"desired":{"value":%q},
"visitors":{"protocolName":"modbus","configData":{"register":"holding","address":1}}}]}}`, name, name, node, protocol, desired)
}

// sink keeps what Run gives.
type sink struct {
	mu       sync.Mutex
	calls    int
	devices  []twin.Device
	problems []twin.Problem
}

func (s *sink) set(devices []twin.Device, problems []twin.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.devices, s.problems = devices, problems
}

// state is the devices as "name=desired".
func (s *sink) state() (calls int, state []string, problems []twin.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		desired := ""
		if len(d.Properties) > 0 && d.Properties[0].Desired != nil {
			desired = *d.Properties[0].Desired
		}
		state = append(state, d.ID.Name+"="+desired)
	}
	slices.Sort(state)
	return s.calls, state, s.problems
}

// run runs a Source on a fake in a bubble.
func run(t *testing.T, f *fake, test func(t *testing.T, source *metaserver.Source, got *sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		source, got, stop := startSource(f)
		defer stop()
		test(t, source, got)
	})
}

func startSource(f *fake) (*metaserver.Source, *sink, func()) {
	source := metaserver.New(metaserver.Config{Node: "n1", Protocol: "modbus", Client: &http.Client{Transport: f}})
	got := &sink{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- source.Run(ctx, got.set) }()
	return source, got, func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
		f.wg.Wait()
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRunRefusesAWrongURL(t *testing.T) {
	for _, u := range []string{"127.0.0.1:10550", "tcp://x", "http://", "http://%zz"} {
		require.Error(t, metaserver.New(metaserver.Config{URL: u}).Run(t.Context(), nil), u)
	}
}

func TestDevicesOfThisNodeAndProtocol(t *testing.T) {
	f := newFake(1)
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "Modbus", "1"))
	f.put("devices", "plant/b", device("b", "n2", "modbus", "2"))
	f.put("devices", "plant/c", device("c", "n1", "opcua", "3"))
	run(t, f, func(t *testing.T, source *metaserver.Source, got *sink) {
		require.Error(t, source.Synced())
		pass(time.Second)
		require.NoError(t, source.Synced())
		calls, state, problems := got.state()
		require.Equal(t, 1, calls)
		require.Equal(t, []string{"a=1"}, state)
		require.Empty(t, problems)

		f.put("devices", "plant/a", device("a", "n1", "modbus", "5"))
		pass(time.Second)
		_, state, _ = got.state()
		require.Equal(t, []string{"a=5"}, state, "by the watch")

		f.put("devices", "plant/b", device("b", "n1", "modbus", "6"))
		f.remove("devices", "plant/a")
		pass(time.Second)
		_, state, _ = got.state()
		require.Equal(t, []string{"b=6"}, state)
	})
}

func TestNothingIsPassedOnWithoutAChange(t *testing.T) {
	f := newFake(1)
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
	run(t, f, func(t *testing.T, _ *metaserver.Source, got *sink) {
		pass(time.Hour)
		calls, _, _ := got.state()
		require.Equal(t, 1, calls)
		for _, resource := range []string{"devices", "devicemodels"} {
			require.Greater(t, f.listed(resource), 80, "asked every half minute")
			require.Less(t, f.listed(resource), 180)
		}
	})
}

// Online MetaServer takes ten seconds for each answer.
func TestSlowAnswers(t *testing.T) {
	f := newFake(1)
	f.delay = 10 * time.Second
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
	run(t, f, func(t *testing.T, source *metaserver.Source, got *sink) {
		pass(25 * time.Second)
		require.NoError(t, source.Synced())
		f.put("devices", "plant/a", device("a", "n1", "modbus", "2"))
		pass(time.Second)
		_, state, _ := got.state()
		require.Equal(t, []string{"a=2"}, state, "the watch does not wait for a list")
	})
}

func TestAnEmptyMetaServerIsKnownToo(t *testing.T) {
	run(t, newFake(1), func(t *testing.T, source *metaserver.Source, got *sink) {
		pass(time.Second)
		require.NoError(t, source.Synced())
		calls, state, _ := got.state()
		require.Equal(t, 1, calls)
		require.Empty(t, state)
	})
}

func TestAnOutageKeepsTheLastSet(t *testing.T) {
	f := newFake(1)
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
	run(t, f, func(t *testing.T, _ *metaserver.Source, got *sink) {
		pass(time.Second)
		f.set(func() { f.down = true })
		f.cut()
		pass(10 * time.Minute)
		calls, state, _ := got.state()
		require.Equal(t, 1, calls)
		require.Equal(t, []string{"a=1"}, state)
		f.remove("devices", "plant/a")
		f.put("devices", "plant/b", device("b", "n1", "modbus", "2"))
		f.set(func() { f.down = false })
		pass(time.Minute)
		_, state, _ = got.state()
		require.Equal(t, []string{"b=2"}, state, "what was deleted meanwhile is seen")
	})
}

// A MetaServer that has lost its database is not believed at once.
func TestAllGoneIsAskedTwice(t *testing.T) {
	f := newFake(1)
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
	run(t, f, func(t *testing.T, _ *metaserver.Source, got *sink) {
		pass(time.Second)
		var kept map[string]string
		f.set(func() { kept, f.objects["devices"] = f.objects["devices"], map[string]string{} })
		seen := f.listed("devices")
		for f.listed("devices") == seen {
			pass(100 * time.Millisecond)
		}
		f.set(func() { f.objects["devices"] = kept })
		pass(time.Minute)
		calls, _, _ := got.state()
		require.Equal(t, 1, calls, "it was back in time")
		f.set(func() { f.objects["devices"] = map[string]string{} })
		pass(2 * time.Minute)
		_, state, _ := got.state()
		require.Empty(t, state)
	})
}

func TestMalformedObjectsAreProblemsOfTheirOwn(t *testing.T) {
	f := newFake(1)
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
	f.put("devices", "plant/x", `{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"resourceVersion":"%d"}}`)
	f.put("devices", "plant/y", strings.Replace(device("y", "n1", "modbus", "1"), `"nodeName"`, `"colour":"red","nodeName"`, 1))
	f.put("devices", "plant/z", strings.Replace(device("z", "n1", "modbus", "4"), `"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device",`, "", 1))
	run(t, f, func(t *testing.T, _ *metaserver.Source, got *sink) {
		pass(time.Second)
		_, state, problems := got.state()
		require.Equal(t, []string{"a=1", "z=4"}, state, "a missing kind is known all the same")
		require.Len(t, problems, 2)

		f.say("devices", `{"type":"ADDED","object":{"metadata":{}}}`+"\n")
		f.say("devices", `{"type":"BOOKMARK","object":{}}`+"\n")
		f.put("devices", "plant/a", device("a", "n1", "modbus", "2"))
		pass(time.Second)
		_, state, problems = got.state()
		require.Equal(t, []string{"a=2", "z=4"}, state)
		require.Len(t, problems, 3)
	})
}

func TestAWatchThatBreaksIsMadeAnew(t *testing.T) {
	for name, text := range map[string]string{
		"error":   `{"type":"ERROR","object":{"kind":"Status","message":"stop to watch sqlite/meta_v2"}}` + "\n",
		"garbage": "<html>\n",
		"large":   `{"type":"ADDED","object":{"x":"` + strings.Repeat("x", 3<<20) + `"}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(1)
			f.put("devicemodels", "plant/boiler", model)
			f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
			run(t, f, func(t *testing.T, _ *metaserver.Source, got *sink) {
				pass(20 * time.Second)
				f.say("devices", text)
				pass(3 * time.Second)
				f.put("devices", "plant/a", device("a", "n1", "modbus", "2"))
				pass(time.Second)
				_, state, _ := got.state()
				require.Equal(t, []string{"a=2"}, state)
			})
		})
	}
}

// However lists, events, losses and outages meet: a while later the devices are those of MetaServer.
func TestTheSetConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 100).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(*testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			f := newFake(seed)
			f.put("devicemodels", "plant/boiler", model)
			_, got, stop := startSource(f)
			defer stop()
			for range steps {
				id := []string{"a", "b", "c"}[rng.IntN(3)]
				switch rng.IntN(12) {
				case 0, 1, 2, 3, 4:
					f.put("devices", "plant/"+id, device(id, []string{"n1", "n1", "n2"}[rng.IntN(3)], "modbus", fmt.Sprint(rng.IntN(5))))
				case 5, 6:
					f.remove("devices", "plant/"+id)
				case 7:
					f.cut()
				case 8:
					f.set(func() { f.down = !f.down })
				case 9:
					f.set(func() { f.delay = time.Duration(rng.IntN(20)) * time.Second })
				case 10:
					f.set(func() { f.lose = rng.Float64() })
				case 11:
					pass(30 * time.Second)
				}
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
			}
			f.set(func() { f.down, f.delay, f.lose = false, 0, 0 })
			pass(3 * time.Minute)
			err = compare(f, got)
		})
		require.NoError(rt, err)
	})
}

func compare(f *fake, got *sink) error {
	reference := metaserver.New(metaserver.Config{Node: "n1", Protocol: "modbus", Client: &http.Client{Transport: f}})
	want := &sink{}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := reference.Run(ctx, want.set); err != nil {
		return err
	}
	_, wantState, _ := want.state()
	_, state, _ := got.state()
	if !slices.Equal(wantState, state) {
		return fmt.Errorf("have %v, want %v", state, wantState)
	}
	return nil
}

// Over real HTTP.
func TestOverHTTP(t *testing.T) {
	f := newFake(1)
	f.put("devicemodels", "plant/boiler", model)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "1"))
	server := httptest.NewServer(f)
	defer server.Close()
	source := metaserver.New(metaserver.Config{URL: server.URL + "/", Node: "n1", Protocol: "modbus"})
	got := &sink{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- source.Run(ctx, got.set) }()
	eventually := func(want string) {
		require.Eventually(t, func() bool { _, state, _ := got.state(); return slices.Equal(state, []string{want}) }, 30*time.Second, time.Millisecond)
	}
	eventually("a=1")
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.watches) == 2 }, 30*time.Second, time.Millisecond)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "2"))
	eventually("a=2")
	f.cut()
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.watches) == 2 }, 30*time.Second, time.Millisecond)
	f.put("devices", "plant/a", device("a", "n1", "modbus", "3"))
	eventually("a=3")
	cancel()
	require.NoError(t, <-done)
	server.CloseClientConnections()
	f.wg.Wait()
}

func TestHTTPErrorsAreSaid(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such thing", http.StatusNotFound)
	}))
	defer server.Close()
	source := metaserver.New(metaserver.Config{URL: server.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.NoError(t, source.Run(ctx, func([]twin.Device, []twin.Problem) { t.Error("nothing is known") }))
	require.Error(t, source.Synced())
	require.True(t, errors.Is(ctx.Err(), context.DeadlineExceeded))
}
