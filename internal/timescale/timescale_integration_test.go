//go:build integration

package timescale_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/internal/timescale"
	"github.com/twinline/twinline/internal/timescale/pgtest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dsn string) (*timescale.Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	store, err := timescale.Open(dsn, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store, &log
}

func query[T any](t testing.TB, store *timescale.Store, sql string) (v T) {
	t.Helper()
	require.NoError(t, store.Pool().QueryRow(t.Context(), sql).Scan(&v))
	return v
}

func commit(t testing.TB, store *timescale.Store, events ...twin.Event) {
	t.Helper()
	offsets, err := store.Offsets(t.Context(), "topic", []int32{0})
	require.NoError(t, err)
	_, err = store.Commit(t.Context(), &history.Batch{Topic: "topic", Ranges: []history.Range{
		{Partition: 0, From: offsets[0], Next: offsets[0] + int64(len(events)), Events: events},
	}})
	require.NoError(t, err)
}

func event(seq uint64) twin.Event {
	return twin.Event{
		DeviceID: "plant/boiler", Epoch: 1, Seq: seq, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC).AddDate(0, 0, int(seq)),
		Readings: []twin.Reading{{Property: "count", Value: twin.UintValue(1<<63 + seq)}, twin.BadReading("level", "timeout"), {Property: "temperature", Value: twin.FloatValue(20.5)}},
	}
}

func TestPlainPostgreSQLGetsABRINIndex(t *testing.T) {
	store, log := open(t, pgtest.Start(t).Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	require.Contains(t, log.String(), string(timescale.Plain))
	require.Equal(t, 1, query[int](t, store, "SELECT count(*) FROM pg_indexes WHERE tablename = 'sample' AND indexdef LIKE '%brin%'"))
}

func TestTimescaleDBGetsAHypertableWithoutUniqueIndex(t *testing.T) {
	store, log := open(t, pgtest.Timescale(t).Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	commit(t, store, event(1), event(2), event(3))
	require.Equal(t, 3, query[int](t, store, "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'sample'"))
	require.Zero(t, query[int](t, store, "SELECT count(*) FROM pg_index WHERE indrelid = 'sample'::regclass AND indisunique"))
	compressed := query[bool](t, store, "SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_name = 'sample'")
	if query[string](t, store, "SELECT current_setting('timescaledb.license')") == "timescale" {
		require.True(t, compressed)
		require.Contains(t, log.String(), string(timescale.Community))
	} else {
		require.False(t, compressed)
		require.Contains(t, log.String(), string(timescale.Apache))
	}
}

func TestAPlainTableWithDataIsLeftAlone(t *testing.T) {
	dsn := pgtest.Timescale(t).Database(t)
	store, log := open(t, dsn)
	require.NoError(t, store.Migrate(t.Context()))
	// As it is when the extension comes after the data.
	_, err := store.Pool().Exec(t.Context(), `CREATE TABLE copy (LIKE sample); DROP TABLE sample CASCADE; ALTER TABLE copy RENAME TO sample;
		INSERT INTO sample (time, series_id) VALUES (now(), 1)`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	log.Reset()
	require.NoError(t, store.Migrate(t.Context()))
	require.Contains(t, log.String(), "stays a plain table")
	require.Equal(t, 1, query[int](t, store, "SELECT count(*) FROM sample"))
}

func TestTheViewsAreForPeople(t *testing.T) {
	store, _ := open(t, pgtest.Start(t).Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	commit(t, store, event(3))
	require.Equal(t, "9223372036854775811", query[string](t, store, "SELECT text FROM telemetry WHERE device_id = 'plant/boiler' AND property = 'count'"))
	require.Equal(t, 20.5, query[float64](t, store, "SELECT value FROM telemetry WHERE property = 'temperature'"))
	require.Equal(t, "bad:timeout", query[string](t, store, "SELECT quality FROM telemetry WHERE property = 'level' AND value IS NULL"))
	require.Equal(t, "good", query[string](t, store, "SELECT quality FROM telemetry WHERE property = 'count'"))
	require.Equal(t, int64(2), query[int64](t, store, "SELECT last - first + 1 FROM hole WHERE device_id = 'plant/boiler'"))
}

func TestANewerSchemaIsRefused(t *testing.T) {
	store, _ := open(t, pgtest.Start(t).Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	_, err := store.Pool().Exec(t.Context(), "INSERT INTO schema_version (version, name) VALUES (999, 'later')")
	require.NoError(t, err)
	require.ErrorContains(t, store.Migrate(t.Context()), "999")
}

func TestTextThatPostgreSQLCannotHoldIsRefused(t *testing.T) {
	store, _ := open(t, pgtest.Start(t).Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	offsets, err := store.Offsets(t.Context(), "topic", []int32{0})
	require.NoError(t, err)
	for name, spoil := range map[string]func(*twin.Event){
		"value":    func(e *twin.Event) { e.Readings[0].Value = twin.StringValue("a\x00b") },
		"property": func(e *twin.Event) { e.Readings[0].Property = "a\x00b" },
		"device":   func(e *twin.Event) { e.DeviceID = "a\x00b" },
	} {
		e := event(1)
		spoil(&e)
		_, err = store.Commit(t.Context(), &history.Batch{Topic: "topic", Ranges: []history.Range{{From: offsets[0], Next: 1, Events: []twin.Event{e}}}})
		require.ErrorIs(t, err, history.ErrRefused, name)
	}
	commit(t, store, event(1))
}

func TestAServerThatComesBackIsUsedAgain(t *testing.T) {
	server := pgtest.Start(t)
	store, _ := open(t, server.Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	commit(t, store, event(1))
	server.Kill(t)
	require.Error(t, store.Ping(t.Context()))
	_, err := store.Commit(t.Context(), &history.Batch{Topic: "topic", Ranges: []history.Range{{From: 1, Next: 2, Events: []twin.Event{event(2)}}}})
	require.Error(t, err)
	require.NotErrorIs(t, err, history.ErrRefused)
	require.NotErrorIs(t, err, history.ErrFenced)
	server.Up(t)
	require.NoError(t, store.Ping(t.Context()))
	commit(t, store, event(2))
	require.Equal(t, 6, query[int](t, store, "SELECT count(*) FROM sample"), "what was committed before the crash is there")
}

func TestADatabaseRestoredFromABackupGetsSeriesOfItsOwn(t *testing.T) {
	store, _ := open(t, pgtest.Start(t).Database(t))
	require.NoError(t, store.Migrate(t.Context()))
	commit(t, store, event(1))
	// The backup is of before that commit. Since it was restored another member has been there.
	_, err := store.Pool().Exec(t.Context(), `TRUNCATE sample, series, watermark RESTART IDENTITY; UPDATE kafka_offset SET next = 0;
		INSERT INTO series (device_id, property) VALUES ('plant/other', 'x'), ('plant/other', 'y'), ('plant/other', 'z')`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	_, err = store.Commit(t.Context(), &history.Batch{Topic: "topic", Ranges: []history.Range{{From: 1, Next: 2, Events: []twin.Event{event(2)}}}})
	require.ErrorIs(t, err, history.ErrFenced)
	commit(t, store, event(1))
	require.Equal(t, 3, query[int](t, store, "SELECT count(*) FROM telemetry WHERE device_id = 'plant/boiler'"))
	require.Zero(t, query[int](t, store, "SELECT count(*) FROM telemetry WHERE device_id <> 'plant/boiler'"))
}

// BenchmarkCommit stores batches as storage does; BenchmarkCopy the same rows with COPY alone. Both
// report rows/s. They use TimescaleDB where there is one.
func BenchmarkCommit(b *testing.B) {
	store := benchStore(b)
	next, rows := int64(0), 0
	for b.Loop() {
		batch := benchBatch(next)
		out, err := store.Commit(context.Background(), batch)
		require.NoError(b, err)
		next = batch.Ranges[0].Next
		rows += out.Rows
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkCopy(b *testing.B) {
	store := benchStore(b)
	var values [][]any
	for _, e := range benchBatch(0).Ranges[0].Events {
		for i, r := range e.Readings {
			f, _ := r.Value.AsFloat()
			values = append(values, []any{e.Time, int64(e.Epoch), int64(e.Seq), f, int32(i)})
		}
	}
	rows := int64(0)
	for b.Loop() {
		n, err := store.Pool().CopyFrom(context.Background(), pgx.Identifier{"sample"}, []string{"time", "epoch", "seq", "value_double", "series_id"}, pgx.CopyFromRows(values))
		require.NoError(b, err)
		rows += n
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

func benchStore(b *testing.B) *timescale.Store {
	b.Helper()
	server := pgtest.Start
	if os.Getenv(pgtest.TimescaleEnv) != "" {
		server = pgtest.Timescale
	}
	store, _ := open(b, server(b).Database(b))
	require.NoError(b, store.Migrate(b.Context()))
	_, err := store.Offsets(b.Context(), "topic", []int32{0})
	require.NoError(b, err)
	return store
}

// benchBatch is 1000 samples of 100 devices with 20 properties.
func benchBatch(from int64) *history.Batch {
	const events, devices, properties = 1000, 100, 20
	r := history.Range{From: from, Next: from + events}
	for i := range int64(events) {
		e := twin.Event{
			DeviceID: "plant/device-" + string(rune('0'+i%devices/10)) + string(rune('0'+i%10)), Epoch: 1, Seq: uint64((from+i)/devices + 1),
			Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(from+i) * time.Millisecond),
		}
		for j := range properties {
			e.Readings = append(e.Readings, twin.Reading{Property: "p" + string(rune('a'+j)), Value: twin.FloatValue(float64(i*properties) + 0.5)})
		}
		r.Events = append(r.Events, e)
	}
	return &history.Batch{Topic: "topic", Ranges: []history.Range{r}}
}
