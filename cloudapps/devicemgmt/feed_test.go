package devicemgmt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func devicesResource() schema.GroupResource { return v1beta1.Resource("devices") }
func devicesKind() schema.GroupKind {
	return schema.GroupKind{Group: v1beta1.GroupName, Kind: "Device"}
}

func named(i int) twin.DeviceID {
	return twin.DeviceID{Namespace: "default", Name: fmt.Sprintf("d%d", i)}
}

func TestFeedGivesEachReaderTheNewestOfEachDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFeed()
		want := map[twin.DeviceID]string{}
		seen := map[twin.DeviceID]string{}
		var cursor, last uint64
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				id := named(rapid.IntRange(0, 5).Draw(t, "device"))
				node := rapid.StringMatching(`[ab]`).Draw(t, "node")
				f.put(id, &View{ID: id, Node: node})
				want[id] = node
			},
			"gone": func(t *rapid.T) {
				id := named(rapid.IntRange(0, 5).Draw(t, "device"))
				f.put(id, nil)
				delete(want, id)
			},
			"read": func(t *rapid.T) {
				for _, c := range f.after(cursor, rapid.IntRange(1, 4).Draw(t, "limit")) {
					if c.Seq <= last {
						t.Fatalf("%d comes after %d", c.Seq, last)
					}
					last, cursor = c.Seq, c.Seq
					if c.JSON == nil {
						delete(seen, c.ID)
						continue
					}
					var v View
					if err := json.Unmarshal(c.JSON, &v); err != nil {
						t.Fatal(err)
					}
					seen[c.ID] = v.Node
				}
			},
			"": func(t *rapid.T) {
				if f.order.Len() > 6 {
					t.Fatalf("%d entries for 6 devices", f.order.Len())
				}
				if cursor == f.last() && fmt.Sprint(seen) != fmt.Sprint(want) {
					t.Fatalf("reader has %v, want %v", seen, want)
				}
			},
		})
	})
}

func TestFeedForgetsTheOldestTombstones(t *testing.T) {
	f := newFeed()
	for i := range maxTombstones + 10 {
		f.put(named(i), &View{ID: named(i)})
	}
	f.put(named(-1), &View{ID: named(-1)})
	kept := f.last()
	for i := range maxTombstones + 10 {
		f.put(named(i), nil)
	}
	require.Equal(t, maxTombstones+1, f.order.Len())
	require.Equal(t, maxTombstones, f.tombstones)
	require.False(t, f.complete(kept), "a reader from before has missed some")
	require.True(t, f.complete(f.last()))
	require.False(t, f.complete(f.last()+1), "of another life")
	f.put(named(3000), &View{ID: named(3000)})
	require.Equal(t, maxTombstones-1, f.tombstones)
}

// recorder is a Publisher that may fail.
type recorder struct {
	mu      sync.Mutex
	records []Record
	fail    error
	calls   int
}

func (p *recorder) Publish(_ context.Context, records []Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.fail != nil {
		return p.fail
	}
	p.records = append(p.records, records...)
	return nil
}

func (p *recorder) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (p *recorder) take() []Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.records
	p.records = nil
	return r
}

func TestEveryTwinIsPublishedAndOnlyTheNewestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model, devices := fixture(t, "pump")
		cluster := newFakeCluster(all(model, devices)...)
		p := &recorder{}
		s := start(t, cluster, func(d *Deps) { d.Publisher = p })
		synctest.Wait()
		first := p.take()
		require.Equal(t, []string{"default/boiler", "default/pump"}, []string{first[0].Key, first[1].Key})
		require.NoError(t, s.CheckPublisher())

		p.set(errors.New("kafka is away"))
		for i := range 100 {
			cluster.put(status(boilerID(), "online", time.Now(), map[string]string{"temperature": fmt.Sprint(i)}), false)
			time.Sleep(time.Second)
		}
		require.ErrorContains(t, s.CheckPublisher(), "kafka is away")
		require.LessOrEqual(t, p.calls, 15, "an outage is not a storm of tries")
		p.set(nil)
		time.Sleep(publishMaxPause)
		synctest.Wait()
		require.NoError(t, s.CheckPublisher())
		records := p.take()
		require.Len(t, records, 1)
		var v View
		require.NoError(t, json.Unmarshal(records[0].Value, &v))
		require.Equal(t, "99.0", mustText(t, property(t, &v, "temperature").Reported.Value))

		cluster.put(devices[1], true)
		synctest.Wait()
		require.Equal(t, []Record{{Key: "default/pump"}}, p.take(), "a tombstone")

		s.Stop()
		require.NoError(t, s.Start(t.Context()))
		synctest.Wait()
		require.Len(t, p.take(), 1, "after a restart the whole set")
		s.Stop()
	})
}

func mustText(t *testing.T, v twin.Value) string {
	b, err := v.MarshalJSON()
	require.NoError(t, err)
	return string(b)
}

func TestAViewTooBigForTheTopicHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model, devices := fixture(t, "pump")
		devices[0].Spec.NodeName = strings.Repeat("n", maxRecord)
		p := &recorder{}
		s := start(t, newFakeCluster(all(model, devices)...), func(d *Deps) { d.Publisher = p })
		synctest.Wait()
		records := p.take()
		require.Len(t, records, 1)
		require.Equal(t, "default/pump", records[0].Key)
		s.Stop()
	})
}

// client reads a stream of events.
type client struct {
	t    *testing.T
	body *bufio.Reader
	stop func()
	last string // Last-Event-ID
}

func (s *server) connect(t *testing.T, url, lastID string) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/events", nil)
	require.NoError(t, err)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	transport := &http.Transport{}
	res, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	stop := sync.OnceFunc(func() { cancel(); _ = res.Body.Close(); transport.CloseIdleConnections() })
	t.Cleanup(stop)
	return &client{t: t, body: bufio.NewReader(res.Body), stop: stop}
}

// next returns the name and data of the next event.
func (c *client) next() (name, data string) {
	c.t.Helper()
	for {
		line, err := c.body.ReadString('\n')
		require.NoError(c.t, err)
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case strings.HasPrefix(line, "id: "):
			c.last = line[4:]
		case line == "" && name != "":
			return name, data
		}
	}
}

// until reads events up to the one of that name and returns the names.
func (c *client) until(want string) (names []string) {
	for {
		name, data := c.next()
		if name == "device" {
			var v View
			require.NoError(c.t, json.Unmarshal([]byte(data), &v))
			name += " " + v.Name
		}
		names = append(names, name)
		if name == want {
			return names
		}
	}
}

func TestEventsBeginWithTheWholeSetAndGoOn(t *testing.T) {
	model, devices := fixture(t, "pump")
	s := start(t, newFakeCluster(all(model, devices)...)).synced(t)
	ts := httptest.NewServer(s.mux)
	t.Cleanup(ts.Close)

	c := s.connect(t, ts.URL, "")
	require.Equal(t, []string{"reset", "device boiler", "device pump", "synced"}, c.until("synced"))
	s.cluster.put(status(boilerID(), "online", time.Now(), map[string]string{"temperature": "20.5"}), false)
	require.Equal(t, []string{"device boiler"}, c.until("device boiler"))
	c.stop()

	s.cluster.put(devices[1], true)
	again := s.connect(t, ts.URL, c.last)
	name, data := again.next()
	require.Equal(t, "gone", name, "what was missed, and no more")
	require.JSONEq(t, `{"id":"default/pump"}`, data)
	require.Equal(t, []string{"synced"}, again.until("synced"))
	again.stop()

	other := s.connect(t, ts.URL, "otherlife-3")
	require.Equal(t, []string{"reset", "device boiler", "synced"}, other.until("synced"))
	s.Stop()
	_, err := other.body.ReadString('\x00')
	require.Error(t, err, "a stop ends the streams")
	other.stop()
}

func TestEventsOfOneNamespace(t *testing.T) {
	model, devices := fixture(t, "pump")
	otherModel := model.DeepCopy()
	otherModel.Namespace, devices[1].Namespace = "plant", "plant"
	s := start(t, newFakeCluster(append(all(model, devices), otherModel)...)).synced(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequest(http.MethodGet, "/api/v1/events?namespace=plant", nil).WithContext(ctx)
	w := httptest.NewRecorder()
	var wg sync.WaitGroup
	wg.Go(func() { s.mux.ServeHTTP(w, r) })
	time.AfterFunc(200*time.Millisecond, cancel)
	wg.Wait()
	require.Contains(t, w.Body.String(), `"id":"plant/pump"`)
	require.NotContains(t, w.Body.String(), "boiler")
}

// deafWriter is a client that takes the first flush and then nothing.
type deafWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
	flushes  int
}

func (d *deafWriter) SetWriteDeadline(t time.Time) error { d.deadline = t; return nil }

func (d *deafWriter) FlushError() error {
	if d.flushes++; d.flushes > 1 {
		time.Sleep(time.Until(d.deadline))
		return errors.New("i/o timeout")
	}
	return nil
}

func TestADeafClientIsDroppedAndHeartbeatsFindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model, devices := fixture(t)
		s := start(t, newFakeCluster(all(model, devices)...))
		synctest.Wait()
		w := &deafWriter{ResponseRecorder: httptest.NewRecorder()}
		began := time.Now()
		s.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/events", nil))
		require.LessOrEqual(t, time.Since(began), streamPause+heartbeat+streamPatient)
		require.Equal(t, 2, w.flushes)
		require.Empty(t, s.streams, "its slot is free again")
		s.Stop()
	})
}

func TestStreamsAreBounded(t *testing.T) {
	model, devices := fixture(t)
	s := start(t, newFakeCluster(all(model, devices)...)).synced(t)
	for range maxStreams {
		s.streams <- struct{}{}
	}
	w := s.do(t, http.MethodGet, "/api/v1/events", "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	for range maxStreams {
		<-s.streams
	}
}

func TestTimeAloneIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model, devices := fixture(t)
		cluster := newFakeCluster(all(model, devices)...)
		s := start(t, cluster)
		synctest.Wait()
		cluster.put(status(boilerID(), "online", time.Now(), map[string]string{"temperature": "20.5"}), false)
		before := s.current.Load().feed.last()
		time.Sleep(DefaultStateSilence - time.Second)
		require.Equal(t, before, s.current.Load().feed.last())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Greater(t, s.current.Load().feed.last(), before)
		v, _ := s.current.Load().view(boilerID())
		require.Equal(t, Stale, v.State)
		s.Stop()
	})
}
