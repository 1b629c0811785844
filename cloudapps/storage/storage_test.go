package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/internal/sqlite"
	"github.com/twinline/twinline/pkg/twin"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func eventually(t testing.TB, check func() bool, what string) {
	t.Helper()
	require.Eventually(t, check, time.Minute, 10*time.Millisecond, what)
}

// rig is the service between a fake Kafka and a real SQLite.
type rig struct {
	cluster  *kfake.Cluster
	config   storage.Config
	file     string
	client   *kgo.Client
	registry *prometheus.Registry
	svc      *storage.Storage
}

func newRig(t testing.TB) *rig {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.SeedTopics(3, kafka.TelemetryTopic), kfake.SeedTopics(1, kafka.DeadLetterTopic))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	cfg := storage.DefaultConfig()
	cfg.Kafka = c.ListenAddrs()
	cfg.Linger, cfg.Session, cfg.Records = 10*time.Millisecond, time.Second, 40
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	r := &rig{cluster: c, config: cfg, client: client, file: filepath.Join(t.TempDir(), "telemetry.db")}
	require.NoError(t, openSQLite(t, r.file).Migrate(t.Context())) // so that it can be read at once
	return r
}

// start runs a member on the rig's database; wrap may put something between.
func (r *rig) start(t testing.TB, wrap func(storage.Store) storage.Store) service.Service {
	t.Helper()
	svc := r.build(t, wrap)
	require.NoError(t, svc.Start(t.Context()))
	t.Cleanup(svc.Stop)
	return svc
}

func (r *rig) build(t testing.TB, wrap func(storage.Store) storage.Store) service.Service {
	t.Helper()
	var store storage.Store = openSQLite(t, r.file)
	if wrap != nil {
		store = wrap(store)
	}
	letters, source, err := storage.Connect(r.config, kafka.Cluster{Brokers: r.config.Kafka}, quiet())
	require.NoError(t, err)
	r.registry = prometheus.NewRegistry()
	r.svc = storage.New(r.config, storage.Deps{Store: store, Source: source, Letters: letters, Log: quiet(), Registry: r.registry})
	return service.Group("test", letters, r.svc)
}

func (r *rig) produce(t testing.TB, key string, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{
			Topic: kafka.TelemetryTopic, Key: []byte(key), Value: []byte(v),
			Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("x")}},
		})
	}
	require.NoError(t, r.client.ProduceSync(t.Context(), records...).FirstErr())
}

func (r *rig) sum(t testing.TB, name string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	require.NoError(t, err)
	total := 0.0
	for _, f := range families {
		if f.GetName() == "twinline_storage_"+name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}

// letters consumes the dead letter topic up to n records.
func (r *rig) letters(t testing.TB, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.config.Kafka...), kgo.ConsumeTopics(kafka.DeadLetterTopic))
	require.NoError(t, err)
	defer client.Close()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err0())
		all = append(all, fetches.Records()...)
	}
	return all
}

func numbered(device string, epoch, seq uint64) twin.Event {
	return twin.Event{
		DeviceID: device, Epoch: epoch, Seq: seq, Time: time.Unix(int64(seq), 0).UTC(),
		Readings: []twin.Reading{{Property: "p", Value: twin.UintValue(seq)}},
	}
}

func text(e twin.Event) string { return string(e.AppendJSON(nil)) }

func (r *rig) stored(t testing.TB, device string) []history.Point {
	t.Helper()
	store := openSQLite(t, r.file)
	points, err := store.History(t.Context(), device, "p", time.Unix(0, 0), time.Unix(1<<40, 0), history.MaxPoints)
	require.NoError(t, err)
	return points
}

func TestEventsAreStoredOnce(t *testing.T) {
	r := newRig(t)
	r.start(t, nil)
	eventually(t, func() bool { return r.svc.Ready() == nil }, "ready")
	for seq := range uint64(100) {
		e := text(numbered("plant/a", 1, seq+1))
		r.produce(t, "plant/a", e, e)
	}
	r.produce(t, "python", `{"device_id":"python","timestamp":"2026-01-02T03:04:05.678901","data":{"p":1,"q":null}}`)
	eventually(t, func() bool { return r.sum(t, "events_total") == 101 }, "all stored")
	eventually(t, func() bool { return r.sum(t, "duplicates_total") == 100 }, "all duplicates seen")
	require.Len(t, r.stored(t, "plant/a"), 100)
	points := r.stored(t, "python")
	require.Len(t, points, 1)
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), points[0].Time)
	require.Equal(t, 102.0, r.sum(t, "rows_total"))
	require.Zero(t, r.sum(t, "missed_total"))
	eventually(t, func() bool { return r.sum(t, "lag_records") == 0 }, "no lag")
}

func TestHolesAreCountedAndFilled(t *testing.T) {
	r := newRig(t)
	r.start(t, nil)
	r.produce(t, "k", text(numbered("plant/a", 1, 1)), text(numbered("plant/a", 1, 5)), text(numbered("plant/a", 1, 3)))
	eventually(t, func() bool { return r.sum(t, "events_total") == 3 }, "stored")
	require.Equal(t, 3.0, r.sum(t, "missed_total"))
	require.Equal(t, 1.0, r.sum(t, "filled_total"))
}

func TestWhatCannotBeStoredGoesToTheDeadLetters(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	tries := 0
	r.start(t, func(s storage.Store) storage.Store {
		return &faulty{Store: s, commit: func(ctx context.Context, b *history.Batch) (history.Outcome, error) {
			mu.Lock()
			tries++
			mu.Unlock()
			for _, rg := range b.Ranges {
				for _, e := range rg.Events {
					if e.Seq%10 == 7 {
						return history.Outcome{}, fmt.Errorf("%w: seven", history.ErrRefused)
					}
				}
			}
			return s.Commit(ctx, b)
		}}
	})
	var values []string
	for seq := range uint64(40) {
		values = append(values, text(numbered("plant/a", 1, seq+1)))
	}
	values[11] = `{"device_id":"plant/a"}`
	values[12] = "\x00 not json"
	r.produce(t, "plant/a", values...)
	dead := r.letters(t, 6)
	require.Len(t, dead, 6)
	eventually(t, func() bool { return r.sum(t, "events_total") == 34 }, "the rest is stored")
	require.Equal(t, 6.0, r.sum(t, "dead_letters_total"))
	require.Len(t, r.stored(t, "plant/a"), 34)
	for _, d := range dead {
		require.Equal(t, "plant/a", string(d.Key))
		require.Contains(t, values, string(d.Value))
		headers := map[string]string{}
		for _, h := range d.Headers {
			headers[h.Key] = string(h.Value)
		}
		require.Equal(t, "x", headers["ce_id"])
		require.Equal(t, kafka.TelemetryTopic, headers[storage.HeaderTopic])
		require.NotEmpty(t, headers[storage.HeaderError])
		require.NotEmpty(t, headers[storage.HeaderOffset])
	}
}

func TestALetterThatDoesNotFitIsCut(t *testing.T) {
	r := newRig(t)
	letters := &letterBox{}
	var dead []kafka.Record
	letters.produce = func(records []kafka.Record) error { dead = append(dead, records...); return nil }
	svc := storage.New(r.config, storage.Deps{
		Store: openSQLite(t, r.file), Letters: letters, Log: quiet(), Registry: prometheus.NewRegistry(),
		Source: scripted{ranges: []kafka.Range{{Partition: 0, From: 0, Next: 1, Records: []kafka.Record{{Value: make([]byte, 2*kafka.MaxRecordSize)}}}}},
	})
	require.NoError(t, svc.Start(t.Context()))
	<-svc.Done()
	require.ErrorIs(t, svc.Err(), errScriptEnded)
	require.Len(t, dead, 1)
	require.Less(t, len(dead[0].Value), kafka.MaxRecordSize)
	last := dead[0].Headers[len(dead[0].Headers)-1]
	require.Equal(t, storage.HeaderCut, last.Key)
	require.Equal(t, "2000000", string(last.Value))
}

func TestNothingMovesOnUntilTheDeadLettersAreThere(t *testing.T) {
	r := newRig(t)
	letters := &letterBox{}
	store := openSQLite(t, r.file)
	calls := 0
	letters.produce = func(records []kafka.Record) error {
		offsets, err := store.Offsets(t.Context(), kafka.TelemetryTopic, []int32{0})
		require.NoError(t, err)
		require.Zero(t, offsets[0])
		switch calls++; calls {
		case 1:
			require.Len(t, records, 2)
			return kafka.ErrAway
		case 2:
			return &kafka.ProduceError{Failed: []int{1}, Errs: []error{kafka.ErrBusy}}
		}
		require.Len(t, records, 1, "what is there is not sent again")
		require.Equal(t, "b", string(records[0].Value))
		return nil
	}
	svc := storage.New(r.config, storage.Deps{
		Store: store, Letters: letters, Log: quiet(), Registry: prometheus.NewRegistry(),
		Source: scripted{ranges: []kafka.Range{{Partition: 0, From: 0, Next: 2, Records: []kafka.Record{{Value: []byte("a")}, {Value: []byte("b"), Offset: 1}}}}},
	})
	require.NoError(t, svc.Start(t.Context()))
	<-svc.Done()
	require.ErrorIs(t, svc.Err(), errScriptEnded)
	offsets, err := store.Offsets(t.Context(), kafka.TelemetryTopic, []int32{0})
	require.NoError(t, err)
	require.Equal(t, int64(2), offsets[0])
}

func TestWithoutTheDatabaseItIsNotReadyAndTriesForEver(t *testing.T) {
	r := newRig(t)
	away := errors.New("database is away")
	var mu sync.Mutex
	down, tries := true, 0
	check := func() error {
		mu.Lock()
		defer mu.Unlock()
		tries++
		if down {
			return away
		}
		return nil
	}
	r.start(t, func(s storage.Store) storage.Store {
		return &faulty{Store: s, ping: check, migrate: check, commit: func(ctx context.Context, b *history.Batch) (history.Outcome, error) {
			if err := check(); err != nil {
				return history.Outcome{}, err
			}
			return s.Commit(ctx, b)
		}}
	})
	set := func(d bool) {
		mu.Lock()
		defer mu.Unlock()
		down, tries = d, 0
	}
	tried := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return tries >= n
		}
	}
	r.produce(t, "k", text(numbered("plant/a", 1, 1)))
	eventually(t, tried(3), "migration is tried again")
	require.ErrorIs(t, r.svc.Ready(), away)
	set(false)
	eventually(t, func() bool { return r.svc.Ready() == nil }, "ready")
	eventually(t, func() bool { return r.sum(t, "events_total") == 1 }, "stored")
	set(true)
	r.produce(t, "k", text(numbered("plant/a", 1, 2)))
	eventually(t, tried(4), "the commit is tried again")
	require.ErrorIs(t, r.svc.Ready(), away)
	set(false)
	eventually(t, func() bool { return r.sum(t, "events_total") == 2 }, "stored")
	require.Len(t, r.stored(t, "plant/a"), 2)
}

func TestACommitWhoseAnswerWasLostIsNotRepeated(t *testing.T) {
	r := newRig(t)
	var once sync.Once
	r.start(t, func(s storage.Store) storage.Store {
		return &faulty{Store: s, commit: func(ctx context.Context, b *history.Batch) (out history.Outcome, err error) {
			out, err = s.Commit(ctx, b)
			once.Do(func() { err = errors.New("connection reset") })
			return out, err
		}}
	})
	plain := `{"device_id":"plain","timestamp":1,"data":{"p":1}}`
	r.produce(t, "k", plain)
	eventually(t, func() bool { return len(r.stored(t, "plain")) == 1 }, "stored")
	r.produce(t, "k", plain)
	eventually(t, func() bool { return len(r.stored(t, "plain")) == 2 }, "goes on")
}

func TestMembersComeAndGo(t *testing.T) {
	r := newRig(t)
	const devices, n = 5, 120
	members := []service.Service{r.start(t, nil)}
	for seq := range uint64(n) {
		for d := range devices {
			device := fmt.Sprintf("plant/d%d", d)
			r.produce(t, device, text(numbered(device, 1, seq+1)))
		}
		r.produce(t, fmt.Sprint("k", seq), `{"device_id":"plain","timestamp":1,"data":{"p":1}}`)
		switch seq {
		case 30:
			members = append(members, r.start(t, nil))
		case 60:
			members[0].Stop()
		case 90:
			members = append(members, r.start(t, nil))
		}
	}
	eventually(t, func() bool { return len(r.stored(t, "plain")) >= n }, "plain events")
	for d := range devices {
		eventually(t, func() bool { return len(r.stored(t, fmt.Sprintf("plant/d%d", d))) >= n }, "device")
		require.Len(t, r.stored(t, fmt.Sprintf("plant/d%d", d)), n)
	}
	require.Len(t, r.stored(t, "plain"), n)
}

func TestStorageKeepsTheServiceContract(t *testing.T) {
	r := newRig(t)
	servicetest.Stress(t, r.build(t, nil))
}

// TestAnySplitStoresTheSame refuses any events, and expects all others in the
// database and those in the dead letters, whatever the pieces.
func TestAnySplitStoresTheSame(t *testing.T) {
	dir, run := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		store, err := sqlite.Open(filepath.Join(dir, fmt.Sprintf("%d.db", run)))
		require.NoError(rt, err)
		defer func() { _ = store.Close() }()
		var ranges []kafka.Range
		poison := map[uint64]bool{}
		seq, good := uint64(0), 0
		for p := range rapid.Int32Range(1, 3).Draw(rt, "partitions") {
			rg := kafka.Range{Partition: p}
			for range rapid.IntRange(1, 12).Draw(rt, "records") {
				seq++
				rg.Next += rapid.Int64Range(0, 2).Draw(rt, "gap")
				switch rapid.IntRange(0, 3).Draw(rt, "kind") {
				case 0:
					poison[seq] = true
				default:
					good++
				}
				rg.Records = append(rg.Records, kafka.Record{Offset: rg.Next, Value: []byte(text(numbered("d", 1, seq)))})
				rg.Next++
			}
			ranges = append(ranges, rg)
		}
		buried := 0
		letters := &letterBox{produce: func(records []kafka.Record) error { buried += len(records); return nil }}
		refusing := &faulty{Store: store, commit: func(ctx context.Context, b *history.Batch) (history.Outcome, error) {
			for _, rg := range b.Ranges {
				for _, e := range rg.Events {
					if poison[e.Seq] {
						return history.Outcome{}, history.ErrRefused
					}
				}
			}
			return store.Commit(ctx, b)
		}}
		registry := prometheus.NewRegistry()
		svc := storage.New(storage.DefaultConfig(), storage.Deps{Store: refusing, Letters: letters, Log: quiet(), Registry: registry, Source: scripted{ranges: ranges}})
		require.NoError(rt, svc.Start(context.Background()))
		<-svc.Done()
		require.ErrorIs(rt, svc.Err(), errScriptEnded)
		points, err := store.History(context.Background(), "d", "p", time.Unix(0, 0), time.Unix(1<<40, 0), history.MaxPoints)
		require.NoError(rt, err)
		require.Len(rt, points, good)
		require.Equal(rt, len(poison), buried)
		for _, rg := range ranges {
			offsets, err := store.Offsets(context.Background(), kafka.TelemetryTopic, []int32{rg.Partition})
			require.NoError(rt, err)
			require.Equal(rt, rg.Next, offsets[rg.Partition])
		}
	})
}

func TestConfigurationMistakes(t *testing.T) {
	good := storage.DefaultConfig()
	good.Kafka, good.Database = []string{"k:9092"}, "sqlite:x"
	require.NoError(t, good.Validate())
	for name, spoil := range map[string]func(*storage.Config){
		"kafka":             func(c *storage.Config) { c.Kafka = nil },
		"database":          func(c *storage.Config) { c.Database = "" },
		"group":             func(c *storage.Config) { c.Group = "" },
		"dead-letter-topic": func(c *storage.Config) { c.DeadLetter = c.Topic },
		"batch-records":     func(c *storage.Config) { c.Records = 0 },
		"batch-linger":      func(c *storage.Config) { c.Linger = time.Minute },
		"session-timeout":   func(c *storage.Config) { c.Session = 0 },
	} {
		c := good
		spoil(&c)
		require.ErrorContains(t, c.Validate(), name)
	}
}

func TestMetricsAreLint(t *testing.T) {
	registry := prometheus.NewRegistry()
	storage.New(storage.DefaultConfig(), storage.Deps{Log: quiet(), Registry: registry})
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// faulty is a Store with some of its methods replaced.
type faulty struct {
	storage.Store
	commit        func(context.Context, *history.Batch) (history.Outcome, error)
	ping, migrate func() error
}

func (f *faulty) Commit(ctx context.Context, b *history.Batch) (history.Outcome, error) {
	if f.commit == nil {
		return f.Store.Commit(ctx, b)
	}
	return f.commit(ctx, b)
}

func (f *faulty) Ping(ctx context.Context) error {
	if f.ping != nil {
		if err := f.ping(); err != nil {
			return err
		}
	}
	return f.Store.Ping(ctx)
}

func (f *faulty) Migrate(ctx context.Context) error {
	if f.migrate != nil {
		if err := f.migrate(); err != nil {
			return err
		}
	}
	return f.Store.Migrate(ctx)
}

// letterBox is a Producer made of a function.
type letterBox struct {
	produce func([]kafka.Record) error
}

func (l *letterBox) Produce(_ context.Context, _ string, records []kafka.Record) error {
	return l.produce(records)
}
func (l *letterBox) Ready() error { return nil }

// scripted is a Source that delivers its ranges once, and ends with errScriptEnded.
type scripted struct{ ranges []kafka.Range }

var errScriptEnded = errors.New("end of the script")

func (s scripted) Ready() error { return nil }

func (s scripted) Run(ctx context.Context, sink kafka.Sink) error {
	for _, r := range s.ranges {
		if _, err := sink.Offsets(ctx, []int32{r.Partition}); err != nil {
			return err
		}
	}
	if err := sink.Store(ctx, s.ranges); err != nil {
		return err
	}
	return errScriptEnded
}
