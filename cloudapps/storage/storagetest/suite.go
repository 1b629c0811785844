// Package storagetest is the conformance suite of storage.Store and storage.Reader.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/pkg/twin"
)

// Database is what is tested.
type Database interface {
	storage.Store
	storage.Reader
}

// Suite says how to get databases of one kind.
type Suite struct {
	// New returns an empty database that is not migrated, and a function that opens it
	// once more, as another process would; both are closed when the test ends.
	New func(t testing.TB) (first Database, again func() Database)
	// Refuse makes the database refuse, from now on, rows with the given text value.
	Refuse func(t testing.TB, db Database, text string)
}

const topic = "iot-telemetry"

// Run runs the suite, each test on a database of its own.
func (s Suite) Run(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"every kind of value is exact", everyKindIsExact},
		{"bad readings have no value", badReadingsHaveNoValue},
		{"offsets move with the batch", offsetsMove},
		{"duplicates are stored once", duplicates},
		{"holes are known and can be filled", holes},
		{"spans are bounded", spansAreBounded},
		{"epochs are apart", epochsAreApart},
		{"plain events are stored as they come", plainEvents},
		{"a failed commit leaves nothing", failedCommitLeavesNothing},
		{"two owners cannot both commit", twoOwners},
		{"owners at the same time", ownersAtTheSameTime},
		{"a device in two partitions", deviceInTwoPartitions},
		{"a refused row refuses the batch", refusedRow},
		{"numbers at the bound", numbersAtTheBound},
		{"a huge batch", hugeBatch},
		{"an empty batch moves the offset", emptyBatch},
		{"history is read by time and limit", historyIsRead},
		{"migrations may run at once", migrationsAtOnce},
		{"any batches equal the model", anyBatches},
	} {
		t.Run(test.name, func(t *testing.T) {
			db, again := s.New(t)
			if test.name != "migrations may run at once" {
				require.NoError(t, db.Migrate(t.Context()))
			}
			test.run(t, &bench{Suite: s, db: db, again: again, next: map[int32]int64{}})
		})
	}
}

// bench is one database under test and how far it should have come.
type bench struct {
	Suite
	db    Database
	again func() Database
	next  map[int32]int64
}

// batch makes the next batch of one partition.
func (b *bench) batch(partition int32, events ...twin.Event) *history.Batch {
	from := b.next[partition]
	return &history.Batch{Topic: topic, Ranges: []history.Range{{Partition: partition, From: from, Next: from + int64(len(events)), Events: events}}}
}

func (b *bench) commit(t require.TestingT, batch *history.Batch) history.Outcome {
	ctx := context.Background()
	for _, r := range batch.Ranges {
		_, err := b.db.Offsets(ctx, batch.Topic, []int32{r.Partition})
		require.NoError(t, err)
	}
	out, err := b.db.Commit(ctx, batch)
	require.NoError(t, err)
	for _, r := range batch.Ranges {
		b.next[r.Partition] = r.Next
	}
	return out
}

func start() time.Time { return time.Date(2026, 3, 29, 1, 30, 0, 123456000, time.UTC) }

// event returns an event with one integer reading "p", the number itself.
func event(device string, epoch, seq uint64) twin.Event {
	return twin.Event{
		DeviceID: device, Epoch: epoch, Seq: seq, Time: start().Add(time.Duration(seq) * time.Second),
		Readings: []twin.Reading{{Property: "p", Value: twin.UintValue(seq)}},
	}
}

// stored returns the numbers of "p" that are stored of a device, oldest first.
func stored(t require.TestingT, db Database, device string) []uint64 {
	points, err := db.History(context.Background(), device, "p", time.Unix(0, 0), start().AddDate(100, 0, 0), history.MaxPoints)
	require.NoError(t, err)
	numbers := make([]uint64, len(points))
	for i, p := range points {
		numbers[len(points)-1-i], _ = p.Value.AsUint()
	}
	return numbers
}

func everyKindIsExact(t *testing.T, b *bench) {
	values := map[string]twin.Value{
		"bool-on": twin.BoolValue(true), "bool-off": twin.BoolValue(false),
		"int-zero": twin.IntValue(0), "int-low": twin.IntValue(math.MinInt64), "int-high": twin.IntValue(math.MaxInt64), "int-odd": twin.IntValue(1<<53 + 1),
		"uint-low": twin.UintValue(1 << 63), "uint-high": twin.UintValue(math.MaxUint64), "uint-round": twin.UintValue(10_000_000_000_000_000_000),
		"float": twin.FloatValue(20.5), "float-whole": twin.FloatValue(21), "float-small": twin.FloatValue(math.SmallestNonzeroFloat64),
		"float-high": twin.FloatValue(math.MaxFloat64), "float-third": twin.FloatValue(1.0 / 3), "float-zero": twin.FloatValue(0),
		"text": twin.StringValue("grün \"quoted\" \\ \t\n 火"), "text-empty": twin.StringValue(""), "text-long": twin.StringValue(strings.Repeat("ä", twin.MaxStringValue/2)),
		"text-number": twin.StringValue("12"), "text-null": twin.StringValue("null"),
	}
	e := twin.Event{DeviceID: "plant/boiler", Epoch: 7, Seq: 9, Time: start()}
	for name, v := range values {
		e.Readings = append(e.Readings, twin.Reading{Property: name, Value: v})
	}
	require.Equal(t, len(values), b.commit(t, b.batch(0, e)).Rows)
	points, err := b.db.Latest(t.Context(), "plant/boiler")
	require.NoError(t, err)
	require.Len(t, points, len(values))
	for _, p := range points {
		require.Equal(t, values[p.Property], p.Value, p.Property)
		require.Equal(t, values[p.Property].Kind(), p.Value.Kind(), p.Property)
		require.Equal(t, history.Point{Property: p.Property, Time: start(), Value: p.Value, Epoch: 7, Seq: 9}, p)
	}
}

func badReadingsHaveNoValue(t *testing.T, b *bench) {
	e := twin.Event{DeviceID: "plant/boiler", Epoch: 1, Seq: 1, Time: start(), Readings: []twin.Reading{
		twin.BadReading("a", "timeout"),
		{Property: "b", Value: twin.FloatValue(3), Quality: twin.Uncertain("stale")},
		{Property: "c", Value: twin.FloatValue(4)},
	}}
	b.commit(t, b.batch(0, e))
	points, err := b.db.Latest(t.Context(), "plant/boiler")
	require.NoError(t, err)
	require.Len(t, points, 3)
	require.True(t, points[0].Value.IsZero())
	require.Equal(t, twin.Bad("timeout"), points[0].Quality)
	require.Equal(t, twin.Uncertain("stale"), points[1].Quality)
	require.True(t, points[2].Quality.IsGood())
}

func offsetsMove(t *testing.T, b *bench) {
	offsets, err := b.db.Offsets(t.Context(), topic, []int32{0, 1})
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{0: 0, 1: 0}, offsets)
	b.commit(t, b.batch(1, event("d", 1, 1), event("d", 1, 2)))
	b.commit(t, &history.Batch{Topic: topic, Ranges: []history.Range{
		{Partition: 0, From: 0, Next: 17, Events: []twin.Event{event("d", 1, 3)}},
		{Partition: 1, From: 2, Next: 3, Events: []twin.Event{event("d", 1, 4)}},
	}})
	for _, db := range []Database{b.db, b.again()} {
		offsets, err = db.Offsets(t.Context(), topic, []int32{0, 1, 2})
		require.NoError(t, err)
		require.Equal(t, map[int32]int64{0: 17, 1: 3, 2: 0}, offsets)
	}
	offsets, err = b.db.Offsets(t.Context(), "another", []int32{0})
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{0: 0}, offsets)
}

func duplicates(t *testing.T, b *bench) {
	out := b.commit(t, b.batch(0, event("d", 1, 1), event("d", 1, 2), event("d", 1, 1)))
	require.Equal(t, history.Outcome{Rows: 2, Events: 2, Duplicates: 1}, out)
	b.db = b.again() // the other process knows them too
	out = b.commit(t, b.batch(0, event("d", 1, 2), event("d", 1, 3), event("d", 1, 1)))
	require.Equal(t, history.Outcome{Rows: 1, Events: 1, Duplicates: 2}, out)
	out = b.commit(t, b.batch(0, event("d", 1, 2)))
	require.Equal(t, history.Outcome{Duplicates: 1}, out)
	require.Equal(t, []uint64{1, 2, 3}, stored(t, b.db, "d"))
}

func holes(t *testing.T, b *bench) {
	out := b.commit(t, b.batch(0, event("d", 1, 3), event("d", 1, 10)))
	require.Equal(t, uint64(8), out.Missed)
	found, err := b.db.Holes(t.Context(), "d")
	require.NoError(t, err)
	require.Equal(t, []history.Hole{
		{Device: "d", Epoch: 1, Span: history.Span{First: 1, Last: 2}},
		{Device: "d", Epoch: 1, Span: history.Span{First: 4, Last: 9}},
	}, found)
	out = b.commit(t, b.batch(0, event("d", 1, 5), event("d", 1, 1), event("d", 1, 2), event("d", 1, 10)))
	require.Equal(t, history.Outcome{Rows: 3, Events: 3, Duplicates: 1, Filled: 3}, out)
	found, err = b.db.Holes(t.Context(), "d")
	require.NoError(t, err)
	require.Equal(t, []history.Hole{
		{Device: "d", Epoch: 1, Span: history.Span{First: 4, Last: 4}},
		{Device: "d", Epoch: 1, Span: history.Span{First: 6, Last: 9}},
	}, found)
	found, err = b.db.Holes(t.Context(), "another")
	require.NoError(t, err)
	require.Empty(t, found)
	require.Equal(t, []uint64{1, 2, 3, 5, 10}, stored(t, b.db, "d"))
}

func spansAreBounded(t *testing.T, b *bench) {
	var events []twin.Event
	for i := range uint64(history.MaxSpans + 1) {
		events = append(events, event("d", 1, 2*i+2))
	}
	b.commit(t, b.batch(0, events...))
	found, err := b.db.Holes(t.Context(), "d")
	require.NoError(t, err)
	require.Len(t, found, history.MaxSpans, "the lowest is given up")
	_, err = b.db.Commit(t.Context(), b.batch(0, event("d", 1, 1)))
	require.ErrorIs(t, err, history.ErrRefused, "it may have been stored, so it must not be stored again, nor lost in silence")
	require.Equal(t, 1, b.commit(t, b.batch(0, event("d", 1, 3))).Events)
	require.Equal(t, 1, b.commit(t, b.batch(0, event("d", 1, 4))).Duplicates)
}

func epochsAreApart(t *testing.T, b *bench) {
	b.commit(t, b.batch(0, event("d", 1, 1), event("d", 2, 1), event("e", 1, 1), event("d", 1, 2)))
	out := b.commit(t, b.batch(0, event("d", 2, 1), event("d", 2, 2), event("d", 3, 1)))
	require.Equal(t, history.Outcome{Rows: 2, Events: 2, Duplicates: 1}, out)
	require.Equal(t, []uint64{1, 1, 1, 2, 2}, stored(t, b.db, "d"))
}

func plainEvents(t *testing.T, b *bench) {
	e := event("python-1", 0, 0)
	e.Time = start()
	out := b.commit(t, b.batch(0, e, e))
	require.Equal(t, history.Outcome{Rows: 2, Events: 2}, out)
	b.commit(t, b.batch(0, e))
	require.Len(t, stored(t, b.db, "python-1"), 3)
	points, err := b.db.Latest(t.Context(), "python-1")
	require.NoError(t, err)
	require.Zero(t, points[0].Epoch)
}

func failedCommitLeavesNothing(t *testing.T, b *bench) {
	b.commit(t, b.batch(0, event("d", 1, 1)))
	_, err := b.db.Offsets(t.Context(), topic, []int32{0, 1})
	require.NoError(t, err)
	half := &history.Batch{Topic: topic, Ranges: []history.Range{
		{Partition: 0, From: 1, Next: 3, Events: []twin.Event{event("d", 1, 2), event("d", 1, 5)}},
		{Partition: 1, From: 99, Next: 100, Events: []twin.Event{event("e", 1, 1)}}, // not where it is
	}}
	_, err = b.db.Commit(t.Context(), half)
	require.ErrorIs(t, err, history.ErrFenced)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.db.Commit(cancelled, b.batch(0, event("d", 1, 2)))
	require.Error(t, err)
	require.Equal(t, []uint64{1}, stored(t, b.db, "d"))
	require.Empty(t, stored(t, b.db, "e"))
	found, err := b.db.Holes(t.Context(), "d")
	require.NoError(t, err)
	require.Empty(t, found)
	offsets, err := b.db.Offsets(t.Context(), topic, []int32{0, 1})
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{0: 1, 1: 0}, offsets)
	require.Equal(t, 1, b.commit(t, b.batch(0, event("d", 1, 2))).Events)
}

func twoOwners(t *testing.T, b *bench) {
	other := b.again()
	_, err := other.Offsets(t.Context(), topic, []int32{0})
	require.NoError(t, err)
	stale := b.batch(0, event("d", 0, 0))
	b.commit(t, b.batch(0, event("d", 0, 0), event("d", 0, 0)))
	_, err = other.Commit(t.Context(), stale)
	require.ErrorIs(t, err, history.ErrFenced)
	require.NotErrorIs(t, err, history.ErrRefused)
	require.Len(t, stored(t, b.db, "d"), 2)
	_, err = other.Commit(t.Context(), b.batch(3, event("d", 0, 0)))
	require.ErrorIs(t, err, history.ErrFenced, "a partition whose offset nobody asked for")
}

// ownersAtTheSameTime has several processes race for the same offsets; plain
// events have nothing but the offsets to keep them from being doubled.
func ownersAtTheSameTime(t *testing.T, b *bench) {
	const owners, rounds = 3, 20
	dbs := []Database{b.db}
	for len(dbs) < owners {
		dbs = append(dbs, b.again())
	}
	var wg sync.WaitGroup
	errs := make(chan error, owners)
	for _, db := range dbs {
		wg.Go(func() { errs <- race(t.Context(), db, rounds) })
	}
	wg.Wait()
	for range owners {
		require.NoError(t, <-errs)
	}
	require.Len(t, stored(t, b.db, "d"), rounds)
}

// race commits one event at a time until the offset is rounds.
func race(ctx context.Context, db Database, rounds int64) error {
	for {
		offsets, err := db.Offsets(ctx, topic, []int32{0})
		if err != nil || offsets[0] == rounds {
			return err
		}
		_, err = db.Commit(ctx, &history.Batch{Topic: topic, Ranges: []history.Range{
			{Partition: 0, From: offsets[0], Next: offsets[0] + 1, Events: []twin.Event{event("d", 0, 0)}},
		}})
		if err != nil && !errors.Is(err, history.ErrFenced) {
			return err
		}
	}
}

// deviceInTwoPartitions is a topic that was given more partitions: two owners
// write to the same watermarks.
func deviceInTwoPartitions(t *testing.T, b *bench) {
	const n = 30
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for partition, db := range []Database{b.db, b.again()} {
		wg.Go(func() { errs <- overlap(t.Context(), db, int32(partition), n) })
	}
	wg.Wait()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	want := make([]uint64, n)
	for i := range want {
		want[i] = uint64(i + 1)
	}
	for _, device := range []string{"a", "b"} {
		require.Equal(t, want, stored(t, b.db, device))
	}
}

// overlap commits the numbers 1 to n of two devices, in an order of its own.
func overlap(ctx context.Context, db Database, partition int32, n int64) error {
	for {
		offsets, err := db.Offsets(ctx, topic, []int32{partition})
		if err != nil || offsets[partition] == n {
			return err
		}
		at := offsets[partition]
		seq := uint64(at + 1)
		if partition == 1 {
			seq = uint64(n - at)
		}
		events := []twin.Event{event("a", 1, seq), event("b", 1, seq)}
		if partition == 1 {
			events[0], events[1] = events[1], events[0]
		}
		_, err = db.Commit(ctx, &history.Batch{Topic: topic, Ranges: []history.Range{{Partition: partition, From: at, Next: at + 1, Events: events}}})
		if err != nil {
			return err
		}
	}
}

func refusedRow(t *testing.T, b *bench) {
	b.Refuse(t, b.db, "poison")
	poison := event("d", 1, 2)
	poison.Readings = []twin.Reading{{Property: "ok", Value: twin.IntValue(1)}, {Property: "p", Value: twin.StringValue("poison")}}
	_, err := b.db.Offsets(t.Context(), topic, []int32{0})
	require.NoError(t, err)
	_, err = b.db.Commit(t.Context(), b.batch(0, event("d", 1, 1), poison, event("d", 1, 3)))
	require.ErrorIs(t, err, history.ErrRefused)
	require.NotErrorIs(t, err, history.ErrFenced)
	require.Empty(t, stored(t, b.db, "d"))
	rest := b.batch(0, event("d", 1, 1), event("d", 1, 3))
	rest.Ranges[0].Next = 3
	require.Equal(t, 2, b.commit(t, rest).Events)
	require.Equal(t, []uint64{1, 3}, stored(t, b.db, "d"))
}

func numbersAtTheBound(t *testing.T, b *bench) {
	out := b.commit(t, b.batch(0, event("d", history.MaxSequence, history.MaxSequence)))
	require.Equal(t, uint64(history.MaxSequence-1), out.Missed)
	require.Equal(t, 1, b.commit(t, b.batch(0, event("d", history.MaxSequence, history.MaxSequence))).Duplicates)
	found, err := b.db.Holes(t.Context(), "d")
	require.NoError(t, err)
	require.Equal(t, []history.Hole{{Device: "d", Epoch: history.MaxSequence, Span: history.Span{First: 1, Last: history.MaxSequence - 1}}}, found)
	long := event(strings.Repeat("x", twin.MaxEventDeviceID), 1, 1)
	long.Readings[0].Property = strings.Repeat("y", twin.MaxPropertyLength)
	early := event("early", 1, 1)
	early.Time = time.Unix(0, 0).UTC()
	late := event("late", 1, 1)
	late.Time = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	require.Equal(t, 3, b.commit(t, b.batch(0, long, early, late)).Rows)
	for _, e := range []twin.Event{early, late} {
		points, err := b.db.Latest(t.Context(), e.DeviceID)
		require.NoError(t, err)
		require.Equal(t, e.Time, points[0].Time)
	}
}

func hugeBatch(t *testing.T, b *bench) {
	const events, properties = 2000, 20
	batch := b.batch(0)
	for i := range uint64(events) {
		e := twin.Event{DeviceID: fmt.Sprintf("plant/device-%d", i%100), Epoch: 1, Seq: i/100 + 1, Time: start()}
		for j := range properties {
			e.Readings = append(e.Readings, twin.Reading{Property: fmt.Sprintf("p%d", j), Value: twin.FloatValue(float64(i) + 0.5)})
		}
		batch.Ranges[0].Events = append(batch.Ranges[0].Events, e)
	}
	batch.Ranges[0].Next = events
	out := b.commit(t, batch)
	require.Equal(t, history.Outcome{Rows: events * properties, Events: events}, out)
	batch.Ranges[0].From, batch.Ranges[0].Next = events, 2*events
	require.Equal(t, history.Outcome{Duplicates: events}, b.commit(t, batch))
	points, err := b.db.Latest(t.Context(), "plant/device-99")
	require.NoError(t, err)
	require.Len(t, points, properties)
}

func emptyBatch(t *testing.T, b *bench) {
	batch := b.batch(0)
	batch.Ranges[0].Next = 5
	require.Equal(t, history.Outcome{}, b.commit(t, batch))
	offsets, err := b.db.Offsets(t.Context(), topic, []int32{0})
	require.NoError(t, err)
	require.Equal(t, int64(5), offsets[0])
}

func historyIsRead(t *testing.T, b *bench) {
	b.commit(t, b.batch(0, event("d", 1, 1), event("d", 1, 2), event("d", 1, 3), event("d", 1, 4)))
	points, err := b.db.History(t.Context(), "d", "p", event("d", 1, 2).Time, event("d", 1, 4).Time, 10)
	require.NoError(t, err)
	require.Len(t, points, 2)
	require.Equal(t, []uint64{3, 2}, []uint64{points[0].Seq, points[1].Seq})
	points, err = b.db.History(t.Context(), "d", "p", time.Unix(0, 0), start().Add(time.Hour), 1)
	require.NoError(t, err)
	require.Len(t, points, 1)
	require.Equal(t, uint64(4), points[0].Seq)
	for _, limit := range []int{0, -1} {
		points, err = b.db.History(t.Context(), "d", "p", time.Unix(0, 0), start().Add(time.Hour), limit)
		require.NoError(t, err)
		require.Empty(t, points)
	}
	points, err = b.db.History(t.Context(), "d", "unknown", time.Unix(0, 0), start().Add(time.Hour), 1)
	require.NoError(t, err)
	require.Empty(t, points)
}

func migrationsAtOnce(t *testing.T, b *bench) {
	dbs := []Database{b.db, b.again(), b.again(), b.again()}
	errs := make(chan error, len(dbs))
	for _, db := range dbs {
		go func() { errs <- db.Migrate(t.Context()) }()
	}
	for range dbs {
		require.NoError(t, <-errs)
	}
	require.NoError(t, b.db.Migrate(t.Context()))
	require.NoError(t, b.db.Ping(t.Context()))
	require.Equal(t, 1, b.commit(t, b.batch(0, event("d", 1, 1))).Events)
}

// anyBatches commits batches with duplicates, in any order, over partitions, and
// compares with a set of what was sent.
func anyBatches(t *testing.T, b *bench) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		sent := map[history.Stream]map[uint64]bool{}
		for range rapid.IntRange(1, 4).Draw(rt, "batches") {
			var want history.Outcome
			batch := &history.Batch{Topic: topic}
			for _, partition := range rapid.SliceOfNDistinct(rapid.Int32Range(0, 2), 1, 3, rapid.ID).Draw(rt, "partitions") {
				r := history.Range{Partition: partition, From: b.next[partition]}
				for range rapid.IntRange(0, 8).Draw(rt, "events") {
					stream := history.Stream{Device: fmt.Sprintf("run-%d/%d", run, rapid.IntRange(0, 1).Draw(rt, "device")), Epoch: rapid.Uint64Range(1, 2).Draw(rt, "epoch")}
					seq := rapid.Uint64Range(1, 12).Draw(rt, "seq")
					if sent[stream] == nil {
						sent[stream] = map[uint64]bool{}
					}
					if sent[stream][seq] {
						want.Duplicates++
					} else {
						want.Events++
						want.Rows++
					}
					sent[stream][seq] = true
					r.Events = append(r.Events, event(stream.Device, stream.Epoch, seq))
				}
				r.Next = r.From + int64(len(r.Events))
				batch.Ranges = append(batch.Ranges, r)
			}
			out := b.commit(rt, batch)
			out.Missed, out.Filled = 0, 0
			require.Equal(rt, want, out)
		}
		requireModel(rt, b.db, sent)
	})
}

func requireModel(t require.TestingT, db Database, sent map[history.Stream]map[uint64]bool) {
	numbers := map[string]int{}
	missing := map[string]uint64{}
	for stream, seqs := range sent {
		highest := uint64(0)
		for seq := range seqs {
			highest = max(highest, seq)
		}
		numbers[stream.Device] += len(seqs)
		missing[stream.Device] += highest - uint64(len(seqs))
	}
	for device, n := range numbers {
		require.Len(t, stored(t, db, device), n)
		found, err := db.Holes(context.Background(), device)
		require.NoError(t, err)
		for _, h := range found {
			missing[device] -= h.Last - h.First + 1
		}
		require.Zero(t, missing[device])
	}
}
