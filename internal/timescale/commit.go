package timescale

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/twinline/twinline/internal/history"
)

// copySamples names the columns in the order of copyReader.
const copySamples = `COPY sample (time, epoch, seq, value_double, value_int, series_id, value_bool, value_uint, value_text, quality) FROM STDIN (FORMAT binary)`

// Commit stores the batch in one transaction: its new samples, the watermarks of
// its streams, the offsets of its partitions. It is all or nothing. The error wraps history.ErrFenced
// or history.ErrRefused where they apply; after any other the commit may be tried again.
func (s *Store) Commit(ctx context.Context, b *history.Batch) (history.Outcome, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.learn(ctx, b); err != nil {
		return history.Outcome{}, err
	}
	var out history.Outcome
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := advance(ctx, tx, b); err != nil {
			return err
		}
		streams := b.Streams()
		marks, err := lockMarks(ctx, tx, streams)
		if err != nil {
			return fmt.Errorf("read watermarks: %w", err)
		}
		events, sifted, err := history.Sift(b, marks)
		if err != nil {
			return err
		}
		out = sifted
		if len(events) == 0 {
			return nil
		}
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, newCopyReader(events, s.series), copySamples); err != nil {
			return fmt.Errorf("copy samples: %w", err)
		}
		return writeMarks(ctx, tx, streams, marks)
	})
	if err != nil {
		if err = classify(err); !errors.Is(err, history.ErrRefused) {
			// The database may be another one now, restored or failed over, with other ids.
			s.series = newDictionary(s.series.max)
		}
		return history.Outcome{}, fmt.Errorf("commit batch: %w", err)
	}
	return out, nil
}

// advance moves the offsets on, from where the batch starts and from nowhere
// else. It locks them: of two commits of one partition the second finds them moved.
func advance(ctx context.Context, tx pgx.Tx, b *history.Batch) error {
	const update = `UPDATE kafka_offset o SET next = v.next, updated = now()
		FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS v(partition, first, next)
		WHERE o.topic = $1 AND o.partition = v.partition AND o.next = v.first`
	n := len(b.Ranges)
	partitions, from, next := make([]int32, n), make([]int64, n), make([]int64, n)
	for i, r := range b.Ranges {
		partitions[i], from[i], next[i] = r.Partition, r.From, r.Next
	}
	tag, err := tx.Exec(ctx, update, b.Topic, partitions, from, next)
	if err != nil {
		return fmt.Errorf("write offsets: %w", err)
	}
	if tag.RowsAffected() != int64(n) {
		return history.ErrFenced
	}
	return nil
}

var errNoWatermark = errors.New("a watermark was neither found nor made")

// lockMarks reads the watermarks of streams, which are sorted, and locks them
// until the transaction ends; it makes those that are not there yet.
func lockMarks(ctx context.Context, tx pgx.Tx, streams []history.Stream) (map[history.Stream]*history.Spans, error) {
	marks := make(map[history.Stream]*history.Spans, len(streams))
	if len(streams) == 0 {
		return marks, nil
	}
	devices, epochs := make([]string, len(streams)), make([]int64, len(streams))
	for i, s := range streams {
		devices[i], epochs[i] = s.Device, int64(s.Epoch)
	}
	if err := readMarks(ctx, tx, devices, epochs, marks); err != nil || len(marks) == len(streams) {
		return marks, err
	}
	const insert = `INSERT INTO watermark (device_id, epoch) SELECT * FROM unnest($1::text[], $2::bigint[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING`
	if _, err := tx.Exec(ctx, insert, devices, epochs); err != nil {
		return nil, err
	}
	if err := readMarks(ctx, tx, devices, epochs, marks); err != nil {
		return nil, err
	}
	if len(marks) != len(streams) {
		return nil, errNoWatermark
	}
	return marks, nil
}

func readMarks(ctx context.Context, tx pgx.Tx, devices []string, epochs []int64, marks map[history.Stream]*history.Spans) error {
	const query = `SELECT w.device_id, w.epoch, w.floor, w.spans::text FROM watermark w
		JOIN unnest($1::text[], $2::bigint[]) AS v(device_id, epoch) ON w.device_id = v.device_id AND w.epoch = v.epoch
		ORDER BY w.device_id, w.epoch FOR UPDATE OF w`
	rows, err := tx.Query(ctx, query, devices, epochs)
	if err != nil {
		return err
	}
	var device, text string
	var epoch, floor int64
	_, err = pgx.ForEachRow(rows, []any{&device, &epoch, &floor, &text}, func() error {
		spans, err := history.ParseSpans(text, uint64(floor))
		if err != nil {
			return fmt.Errorf("watermark of device %.80q, epoch %d: %w", device, epoch, err)
		}
		marks[history.Stream{Device: device, Epoch: uint64(epoch)}] = &spans
		return nil
	})
	return err
}

func writeMarks(ctx context.Context, tx pgx.Tx, streams []history.Stream, marks map[history.Stream]*history.Spans) error {
	if len(streams) == 0 {
		return nil
	}
	const update = `UPDATE watermark w SET spans = v.spans::int8multirange, floor = v.floor, updated = now()
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) AS v(device_id, epoch, spans, floor)
		WHERE w.device_id = v.device_id AND w.epoch = v.epoch`
	n := len(streams)
	devices, texts := make([]string, n), make([]string, n)
	epochs, floors := make([]int64, n), make([]int64, n)
	var buf []byte
	for i, s := range streams {
		spans := marks[s]
		buf = spans.AppendText(buf[:0])
		devices[i], epochs[i], texts[i], floors[i] = s.Device, int64(s.Epoch), string(buf), int64(spans.Floor())
	}
	tag, err := tx.Exec(ctx, update, devices, epochs, texts, floors)
	if err != nil {
		return fmt.Errorf("write watermarks: %w", err)
	}
	if tag.RowsAffected() != int64(n) {
		return errNoWatermark
	}
	return nil
}
