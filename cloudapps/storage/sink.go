package storage

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/pkg/twin"
)

// sink is the Storage as its Source sees it.
type sink struct{ *Storage }

// entry is a record and what it says.
type entry struct {
	record *kafka.Record
	event  twin.Event
}

// piece is what is left to store of one range.
type piece struct {
	partition  int32
	from, next int64
	entries    []entry
}

// letter is a record that cannot be stored.
type letter struct {
	partition int32
	record    *kafka.Record
	reason    string // for the metric
	err       error  // for people
}

// Offsets implements kafka.Sink.
func (s sink) Offsets(ctx context.Context, partitions []int32) (map[int32]int64, error) {
	s.metrics.lag.Reset() // others may have them now
	var offsets map[int32]int64
	err := s.retry(ctx, "read offsets", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		offsets, err = s.deps.Store.Offsets(ctx, s.topic, partitions)
		return err
	})
	return offsets, err
}

// Store implements kafka.Sink.
func (s sink) Store(ctx context.Context, ranges []kafka.Range) error {
	pieces, letters := s.decode(ranges)
	if err := s.bury(ctx, letters); err != nil {
		return err
	}
	if err := s.commit(ctx, pieces); err != nil {
		return err
	}
	for i := range ranges {
		s.account(&ranges[i])
	}
	return nil
}

// account measures a range that is stored.
func (s sink) account(r *kafka.Range) {
	partition := strconv.Itoa(int(r.Partition))
	s.metrics.lag.WithLabelValues(partition).Set(float64(max(0, r.High-r.Next)))
	first := r.Records[0].Offset
	switch {
	case first > r.From:
		s.metrics.skipped.Add(float64(first - r.From))
	case first < r.From:
		s.log.Warn("the topic begins anew", "topic", s.topic, "partition", r.Partition, "expected", r.From, "offset", first)
	}
}

// decode reads the records, on all cores.
func (s sink) decode(ranges []kafka.Range) ([]piece, []letter) {
	const chunk = 256 // records that one goroutine takes
	pieces := make([]piece, len(ranges))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	errs := make([][]error, len(ranges))
	for i := range ranges {
		r := &ranges[i]
		pieces[i] = piece{partition: r.Partition, from: r.From, next: r.Next, entries: make([]entry, len(r.Records))}
		errs[i] = make([]error, len(r.Records))
		for from := 0; from < len(r.Records); from += chunk {
			to := min(from+chunk, len(r.Records))
			group.Go(func() error {
				for j := from; j < to; j++ {
					e := &pieces[i].entries[j]
					e.record = &r.Records[j]
					errs[i][j] = read(e)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // each record has its own error
	return pieces, s.sortOut(pieces, errs)
}

func read(e *entry) error {
	if err := e.event.UnmarshalJSON(e.record.Value); err != nil {
		return err
	}
	return history.Check(&e.event)
}

// sortOut moves the entries that have an error from the pieces to letters.
func (s sink) sortOut(pieces []piece, errs [][]error) []letter {
	var letters []letter
	for i := range pieces {
		p := &pieces[i]
		kept := p.entries[:0]
		for j, err := range errs[i] {
			if err == nil {
				kept = append(kept, p.entries[j])
				continue
			}
			record := p.entries[j].record
			if s.unreadable.First(string(record.Key)) {
				s.log.Warn("an event cannot be read and goes to the dead letters; logged once per key",
					"partition", p.partition, "offset", record.Offset, "error", err)
			}
			letters = append(letters, letter{p.partition, record, "unreadable", err})
		}
		p.entries = kept
	}
	return letters
}

// commit stores the pieces. What the database refuses is narrowed down by
// halves to single records, which go to the dead letters, while the rest is stored: at
// most two transactions for each record of the pieces.
func (s sink) commit(ctx context.Context, pieces []piece) error {
	batch := batchOf(s.topic, pieces)
	var out history.Outcome
	began := time.Now()
	err := s.retry(ctx, "store", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		out, err = s.deps.Store.Commit(ctx, batch)
		return err
	})
	if err == nil {
		s.metrics.stored(out, time.Since(began))
		return nil
	}
	entries := count(pieces)
	if !errors.Is(err, history.ErrRefused) || entries == 0 {
		return err
	}
	if entries == 1 {
		return s.commitWithout(ctx, pieces, err)
	}
	first, second := split(pieces, entries/2)
	if err := s.commit(ctx, first); err != nil {
		return err
	}
	return s.commit(ctx, second)
}

// commitWithout gives the only record of the pieces to the dead letters and moves on behind it.
func (s sink) commitWithout(ctx context.Context, pieces []piece, refused error) error {
	for i := range pieces {
		p := &pieces[i]
		if len(p.entries) == 0 {
			continue
		}
		e := &p.entries[0]
		if s.unreadable.First(e.event.DeviceID) {
			s.log.Warn("the database refuses an event, which goes to the dead letters; logged once per device",
				"device", e.event.DeviceID, "partition", p.partition, "offset", e.record.Offset, "error", refused)
		}
		if err := s.bury(ctx, []letter{{p.partition, e.record, "refused", refused}}); err != nil {
			return err
		}
		p.entries = nil
	}
	return s.commit(ctx, pieces)
}

func count(pieces []piece) int {
	n := 0
	for i := range pieces {
		n += len(pieces[i].entries)
	}
	return n
}

// split parts the pieces before entry n. A piece that is cut goes on where its first half ends.
func split(pieces []piece, n int) (first, second []piece) {
	for _, p := range pieces {
		switch {
		case len(p.entries) <= n:
			first = append(first, p)
			n -= len(p.entries)
		case n == 0:
			second = append(second, p)
		default:
			cut := p.entries[n].record.Offset
			first = append(first, piece{p.partition, p.from, cut, slices.Clip(p.entries[:n])})
			second = append(second, piece{p.partition, cut, p.next, p.entries[n:]})
			n = 0
		}
	}
	return first, second
}

func batchOf(topic string, pieces []piece) *history.Batch {
	b := &history.Batch{Topic: topic, Ranges: make([]history.Range, len(pieces))}
	for i := range pieces {
		p := &pieces[i]
		events := make([]twin.Event, len(p.entries))
		for j := range p.entries {
			events[j] = p.entries[j].event
		}
		b.Ranges[i] = history.Range{Partition: p.partition, From: p.from, Next: p.next, Events: events}
	}
	return b
}
