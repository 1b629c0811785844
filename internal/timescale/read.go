package timescale

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/pkg/twin"
)

// pointColumns are what scanPoints reads, of sample s and series d.
const pointColumns = `d.property, s.time, coalesce(s.epoch, 0), coalesce(s.seq, 0),
	s.value_double, s.value_int, s.value_uint::text, s.value_bool, s.value_text, coalesce(s.quality, '')`

// Latest returns the newest reading of each property of a device, by property.
func (s *Store) Latest(ctx context.Context, device string) ([]history.Point, error) {
	const query = `SELECT ` + pointColumns + ` FROM series d
		CROSS JOIN LATERAL (SELECT * FROM sample WHERE series_id = d.id ORDER BY time DESC LIMIT 1) s
		WHERE d.device_id = $1 ORDER BY d.property LIMIT $2`
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
		WHERE d.device_id = $1 AND d.property = $2 AND s.time >= $3 AND s.time < $4
		ORDER BY s.time DESC, s.epoch DESC, s.seq DESC LIMIT $5`
	points, err := s.points(ctx, query, device, property, from, to, max(0, min(limit, history.MaxPoints)))
	if err != nil {
		return nil, fmt.Errorf("read history of %.80q, %.80q: %w", device, property, err)
	}
	return points, nil
}

// Holes returns the sequence numbers of a device that were passed over, lowest first,
// at most history.MaxPoints of them.
func (s *Store) Holes(ctx context.Context, device string) ([]history.Hole, error) {
	const query = `SELECT epoch, first, last FROM hole WHERE device_id = $1 ORDER BY epoch, first LIMIT $2`
	rows, err := s.pool.Query(ctx, query, device, history.MaxPoints)
	if err != nil {
		return nil, fmt.Errorf("read holes of %.80q: %w", device, err)
	}
	holes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (history.Hole, error) {
		var epoch, first, last int64
		err := row.Scan(&epoch, &first, &last)
		return history.Hole{Device: device, Epoch: uint64(epoch), Span: history.Span{First: uint64(first), Last: uint64(last)}}, err
	})
	if err != nil {
		return nil, fmt.Errorf("read holes of %.80q: %w", device, err)
	}
	return holes, nil
}

func (s *Store) points(ctx context.Context, query string, args ...any) ([]history.Point, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanPoint)
}

func scanPoint(row pgx.CollectableRow) (history.Point, error) {
	var p history.Point
	var epoch, seq int64
	var double *float64
	var integer *int64
	var unsigned, text *string
	var boolean *bool
	var quality string
	if err := row.Scan(&p.Property, &p.Time, &epoch, &seq, &double, &integer, &unsigned, &boolean, &text, &quality); err != nil {
		return history.Point{}, err
	}
	p.Time, p.Epoch, p.Seq, p.Quality = p.Time.UTC(), uint64(epoch), uint64(seq), twin.Quality(quality)
	switch {
	case double != nil:
		p.Value = twin.FloatValue(*double)
	case integer != nil:
		p.Value = twin.IntValue(*integer)
	case unsigned != nil:
		u, err := strconv.ParseUint(*unsigned, 10, 64)
		if err != nil {
			return history.Point{}, err
		}
		p.Value = twin.UintValue(u)
	case boolean != nil:
		p.Value = twin.BoolValue(*boolean)
	case text != nil:
		p.Value = twin.StringValue(*text)
	}
	return p, nil
}
