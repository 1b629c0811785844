package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/pkg/twin"
)

// Commit stores the batch in one transaction: its new samples, the watermarks of
// its streams, the offsets of its partitions. It is all or nothing. The error wraps history.ErrFenced
// or history.ErrRefused where they apply; after any other the commit may be tried again.
func (s *Store) Commit(ctx context.Context, b *history.Batch) (history.Outcome, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	var out history.Outcome
	learned := map[seriesKey]int64{}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := advance(ctx, tx, b); err != nil {
			return err
		}
		streams := b.Streams()
		marks, err := readMarks(ctx, tx, streams)
		if err != nil {
			return fmt.Errorf("read watermarks: %w", err)
		}
		events, sifted, err := history.Sift(b, marks)
		if err != nil {
			return err
		}
		out = sifted
		if err := s.insert(ctx, tx, events, learned); err != nil {
			return fmt.Errorf("insert samples: %w", err)
		}
		return writeMarks(ctx, tx, streams, marks)
	})
	if err != nil {
		return history.Outcome{}, fmt.Errorf("commit batch: %w", classify(err))
	}
	if len(s.series)+len(learned) > maxSeries {
		clear(s.series)
	}
	for key, id := range learned {
		s.series[key] = id
	}
	return out, nil
}

// advance moves the offsets on, from where the batch starts and from nowhere else.
func advance(ctx context.Context, tx *sql.Tx, b *history.Batch) error {
	const update = "UPDATE kafka_offset SET next = ? WHERE topic = ? AND partition = ? AND next = ?"
	for i := range b.Ranges {
		r := &b.Ranges[i]
		res, err := tx.ExecContext(ctx, update, r.Next, b.Topic, r.Partition, r.From)
		if err != nil {
			return fmt.Errorf("write offsets: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(history.ErrFenced, err)
		}
	}
	return nil
}

func readMarks(ctx context.Context, tx *sql.Tx, streams []history.Stream) (map[history.Stream]*history.Spans, error) {
	stmt, err := tx.PrepareContext(ctx, "SELECT spans, floor FROM watermark WHERE device_id = ? AND epoch = ?")
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	marks := make(map[history.Stream]*history.Spans, len(streams))
	for _, stream := range streams {
		var text string
		var floor int64
		err := stmt.QueryRowContext(ctx, stream.Device, int64(stream.Epoch)).Scan(&text, &floor)
		if errors.Is(err, sql.ErrNoRows) {
			marks[stream] = &history.Spans{}
			continue
		}
		if err != nil {
			return nil, err
		}
		spans, err := history.ParseSpans(text, uint64(floor))
		if err != nil {
			return nil, fmt.Errorf("watermark of device %.80q, epoch %d: %w", stream.Device, stream.Epoch, err)
		}
		marks[stream] = &spans
	}
	return marks, nil
}

func writeMarks(ctx context.Context, tx *sql.Tx, streams []history.Stream, marks map[history.Stream]*history.Spans) error {
	const upsert = `INSERT INTO watermark (device_id, epoch, spans, floor) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET spans = excluded.spans, floor = excluded.floor`
	stmt, err := tx.PrepareContext(ctx, upsert)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for _, stream := range streams {
		spans := marks[stream]
		if _, err := stmt.ExecContext(ctx, stream.Device, int64(stream.Epoch), string(spans.AppendText(nil)), int64(spans.Floor())); err != nil {
			return fmt.Errorf("write watermarks: %w", err)
		}
	}
	return nil
}

// insert writes the readings of events. Ids that it had to ask for go to learned.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, events []*twin.Event, learned map[seriesKey]int64) error {
	const insert = `INSERT INTO sample (series_id, time, epoch, seq, value_double, value_int, value_uint, value_bool, value_text, quality)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	stmt, err := tx.PrepareContext(ctx, insert)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for _, e := range events {
		var epoch, seq any
		if e.Epoch != 0 {
			epoch, seq = int64(e.Epoch), int64(e.Seq)
		}
		at := e.Time.UnixMicro()
		for i := range e.Readings {
			r := &e.Readings[i]
			id, err := s.seriesID(ctx, tx, seriesKey{e.DeviceID, r.Property}, learned)
			if err != nil {
				return err
			}
			row := [10]any{id, at, epoch, seq}
			setValue(row[4:9], r.Value)
			if !r.Quality.IsGood() {
				row[9] = string(r.Quality)
			}
			if _, err := stmt.ExecContext(ctx, row[:]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// setValue sets one of the columns double, int, uint, bool, text.
func setValue(columns []any, v twin.Value) {
	switch v.Kind() {
	case twin.Float:
		columns[0], _ = v.AsFloat()
	case twin.Int:
		columns[1], _ = v.AsInt()
	case twin.Uint:
		u, _ := v.AsUint()
		columns[2] = strconv.FormatUint(u, 10)
	case twin.Bool:
		columns[3], _ = v.AsBool()
	case twin.String:
		columns[4], _ = v.AsString()
	}
}

func (s *Store) seriesID(ctx context.Context, tx *sql.Tx, key seriesKey, learned map[seriesKey]int64) (int64, error) {
	if id, ok := s.series[key]; ok {
		return id, nil
	}
	if id, ok := learned[key]; ok {
		return id, nil
	}
	// The update changes nothing, and makes the id come back either way.
	const upsert = `INSERT INTO series (device_id, property) VALUES (?, ?)
		ON CONFLICT DO UPDATE SET property = excluded.property RETURNING id`
	var id int64
	if err := tx.QueryRowContext(ctx, upsert, key.device, key.property).Scan(&id); err != nil {
		return 0, err
	}
	learned[key] = id
	return id, nil
}
