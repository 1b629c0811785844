// Package timescale keeps telemetry in TimescaleDB, or in PostgreSQL 14 or
// newer without it. See DESIGN.md.
package timescale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/twinline/twinline/internal/history"
)

// Bounds of a Store.
const (
	// DefaultMaxSeries bounds the series dictionary in memory; about 100 bytes each.
	DefaultMaxSeries = 500_000

	maxConnections = 8
	connectTimeout = 5 * time.Second
	maxConnIdle    = 5 * time.Minute

	// sessionSettings make the server end what a storage service left behind that
	// is gone with its machine, so that its locks do not hold up the next one.
	sessionSettings = `SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '20s';
		SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET timezone = 'UTC'`
)

// Store keeps telemetry in one database. It is safe for concurrent use;
// commits of one Store are done one after the other.
type Store struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	commit sync.Mutex // held by Commit; guards series
	series *dictionary
}

// Open returns the Store of a database named by a postgres:// URL or a libpq
// connection string. It does not connect: the database may be away. The error is
// the URL's fault. The caller closes the Store.
func Open(dsn string, log *slog.Logger) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	cfg.MaxConns = min(cfg.MaxConns, maxConnections)
	cfg.MaxConnIdleTime = maxConnIdle
	if cfg.ConnConfig.ConnectTimeout == 0 || cfg.ConnConfig.ConnectTimeout > time.Minute {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	if _, ok := cfg.ConnConfig.RuntimeParams["application_name"]; !ok {
		cfg.ConnConfig.RuntimeParams["application_name"] = "twinline"
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, sessionSettings).ReadAll()
		return err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return &Store{pool: pool, log: log, series: newDictionary(DefaultMaxSeries)}, nil
}

// Close waits for what is under way and closes all connections.
func (s *Store) Close() { s.pool.Close() }

// Pool gives the connections to who wants to measure or to query more.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Ping asks the database for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// Offsets returns the next offset of each partition; 0 of one that was never seen.
func (s *Store) Offsets(ctx context.Context, topic string, partitions []int32) (map[int32]int64, error) {
	const register = `INSERT INTO kafka_offset (topic, partition) SELECT $1, p FROM unnest($2::int[]) AS p ORDER BY p ON CONFLICT DO NOTHING`
	const query = `SELECT partition, next FROM kafka_offset WHERE topic = $1 AND partition = ANY($2)`
	offsets := make(map[int32]int64, len(partitions))
	batch := &pgx.Batch{}
	batch.Queue(register, topic, partitions)
	batch.Queue(query, topic, partitions).Query(func(rows pgx.Rows) error {
		var partition int32
		var next int64
		_, err := pgx.ForEachRow(rows, []any{&partition, &next}, func() error {
			offsets[partition] = next
			return nil
		})
		return err
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("read offsets of %s: %w", topic, err)
	}
	return offsets, nil
}

// classify adds history.ErrRefused to an error that lies in the data.
func classify(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return err
	}
	// Data exception, integrity constraint violation, program limit exceeded, and
	// what a trigger raises (PostgreSQL, appendix A).
	switch class := pg.Code[:2]; {
	case class == "22", class == "23", class == "54", pg.Code == "P0001":
		return fmt.Errorf("%w: %w", history.ErrRefused, err)
	}
	return err
}
