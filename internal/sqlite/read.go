package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/pkg/twin"
)

const pointColumns = `d.property, s.time, coalesce(s.epoch, 0), coalesce(s.seq, 0),
	s.value_double, s.value_int, s.value_uint, s.value_bool, s.value_text, coalesce(s.quality, '')`

// Latest returns the newest reading of each property of a device, by property.
func (s *Store) Latest(ctx context.Context, device string) ([]history.Point, error) {
	const query = `SELECT ` + pointColumns + ` FROM series d
		JOIN sample s ON s.rowid = (SELECT rowid FROM sample WHERE series_id = d.id ORDER BY time DESC LIMIT 1)
		WHERE d.device_id = ? ORDER BY d.property LIMIT ?`
	points, err := s.points(ctx, query, device, history.MaxPoints)
	if err != nil {
		return nil, fmt.Errorf("read latest of %.80q: %w", device, err)
	}
	return points, nil
}

// History returns the readings of one property with from <= time < to, newest
// first, at most limit and at most history.MaxPoints.
func (s *Store) History(ctx context.Context, device, property string, from, to time.Time, limit int) ([]history.Point, error) {
	const query = `SELECT ` + pointColumns + ` FROM series d JOIN sample s ON s.series_id = d.id
		WHERE d.device_id = ? AND d.property = ? AND s.time >= ? AND s.time < ?
		ORDER BY s.time DESC, s.epoch DESC, s.seq DESC LIMIT ?`
	points, err := s.points(ctx, query, device, property, from.UnixMicro(), to.UnixMicro(), max(0, min(limit, history.MaxPoints)))
	if err != nil {
		return nil, fmt.Errorf("read history of %.80q, %.80q: %w", device, property, err)
	}
	return points, nil
}

// Holes returns the sequence numbers of a device that were passed over, lowest
// first, at most history.MaxPoints of them.
func (s *Store) Holes(ctx context.Context, device string) ([]history.Hole, error) {
	var holes []history.Hole
	const query = "SELECT epoch, spans, floor FROM watermark WHERE device_id = ? ORDER BY epoch"
	err := s.each(ctx, query, []any{device}, func(rows *sql.Rows) error {
		var epoch, floor int64
		var text string
		if err := rows.Scan(&epoch, &text, &floor); err != nil {
			return err
		}
		spans, err := history.ParseSpans(text, uint64(floor))
		if err != nil {
			return err
		}
		for _, span := range spans.Holes() {
			if len(holes) < history.MaxPoints {
				holes = append(holes, history.Hole{Device: device, Epoch: uint64(epoch), Span: span})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read holes of %.80q: %w", device, err)
	}
	return holes, nil
}

func (s *Store) points(ctx context.Context, query string, args ...any) ([]history.Point, error) {
	var points []history.Point
	err := s.each(ctx, query, args, func(rows *sql.Rows) error {
		p, err := scanPoint(rows)
		points = append(points, p)
		return err
	})
	return points, err
}

func (s *Store) each(ctx context.Context, query string, args []any, f func(rows *sql.Rows) error) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanPoint(rows *sql.Rows) (history.Point, error) {
	var p history.Point
	var at, epoch, seq int64
	var double sql.NullFloat64
	var integer sql.NullInt64
	var boolean sql.NullBool
	var unsigned, text sql.NullString
	var quality string
	if err := rows.Scan(&p.Property, &at, &epoch, &seq, &double, &integer, &unsigned, &boolean, &text, &quality); err != nil {
		return history.Point{}, err
	}
	p.Time, p.Epoch, p.Seq, p.Quality = time.UnixMicro(at).UTC(), uint64(epoch), uint64(seq), twin.Quality(quality)
	switch {
	case double.Valid:
		p.Value = twin.FloatValue(double.Float64)
	case integer.Valid:
		p.Value = twin.IntValue(integer.Int64)
	case unsigned.Valid:
		u, err := strconv.ParseUint(unsigned.String, 10, 64)
		if err != nil {
			return history.Point{}, err
		}
		p.Value = twin.UintValue(u)
	case boolean.Valid:
		p.Value = twin.BoolValue(boolean.Bool)
	case text.Valid:
		p.Value = twin.StringValue(text.String)
	}
	return p, nil
}
