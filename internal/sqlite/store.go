// Package sqlite keeps telemetry in one SQLite file, for the demo and for small
// sites: no server, no cgo. One process at a time uses a file.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/twinline/twinline/internal/history"
)

//go:embed schema.sql
var schema string

// schemaVersion is the user_version of a file with this schema.
const schemaVersion = 1

// Bounds of a Store.
const (
	// maxSeries bounds the series dictionary in memory; about 100 bytes each.
	maxSeries = 200_000

	busyTimeout = 5 * time.Second
	busyRetry   = 10 * time.Millisecond
	readers     = 4
)

// Store keeps telemetry in one file. It is safe for concurrent use. Readers
// never wait for a commit.
type Store struct {
	db *sql.DB

	commit sync.Mutex // SQLite has one writer; guards series
	series map[seriesKey]int64
}

type seriesKey struct{ device, property string }

// Open opens or makes a file. The caller closes the Store.
func Open(file string) (*Store, error) {
	if file == "" || strings.HasPrefix(file, ":") {
		return nil, fmt.Errorf("open sqlite: %q is not a file", file)
	}
	// synchronous=NORMAL with the WAL of Migrate: a power cut may undo the last
	// commits, whole ones, and with them their offsets; they are read from Kafka again.
	wait := fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())
	q := url.Values{"_pragma": {wait, "synchronous(NORMAL)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: escape(file), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open sqlite %s: %w", file, err)
	}
	db.SetMaxOpenConns(readers + 1)
	return &Store{db: db, series: map[seriesKey]int64{}}, nil
}

func escape(file string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(file)
}

// Close ends what is under way and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Ping reports whether the file can be used.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("ping sqlite: %w", err)
	}
	return nil
}

// Migrate makes the schema where it is not yet. It refuses a schema that is newer than it knows.
func (s *Store) Migrate(ctx context.Context) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.useWAL(ctx); err != nil {
		return fmt.Errorf("migrate sqlite: use WAL: %w", err)
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var have int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
			return err
		}
		switch {
		case have == schemaVersion:
			return nil
		case have != 0:
			return fmt.Errorf("the file has schema version %d, this program knows %d", have, schemaVersion)
		}
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
		return err
	})
	if err != nil {
		return fmt.Errorf("migrate sqlite: %w", err)
	}
	return nil
}

// useWAL turns the file to write-ahead logging, which it keeps. For that SQLite
// upgrades a read transaction, where it does not wait (btree.c, sqlite3BtreeSetVersion):
// of two that do it at once one is told SQLITE_BUSY, whatever busy_timeout says.
func (s *Store) useWAL(ctx context.Context) error {
	retry := time.NewTicker(busyRetry)
	defer retry.Stop()
	for deadline := time.Now().Add(busyTimeout); ; {
		_, err := s.db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		if !busy(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-retry.C:
		}
	}
}

func busy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// Offsets returns the next offset of each partition; 0 of one that was never seen.
func (s *Store) Offsets(ctx context.Context, topic string, partitions []int32) (map[int32]int64, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	offsets := make(map[int32]int64, len(partitions))
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		for _, p := range partitions {
			const register = "INSERT INTO kafka_offset (topic, partition, next) VALUES (?, ?, 0) ON CONFLICT DO NOTHING"
			if _, err := tx.ExecContext(ctx, register, topic, p); err != nil {
				return err
			}
			var next int64
			const query = "SELECT next FROM kafka_offset WHERE topic = ? AND partition = ?"
			if err := tx.QueryRowContext(ctx, query, topic, p).Scan(&next); err != nil {
				return err
			}
			offsets[p] = next
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read offsets of %s: %w", topic, err)
	}
	return offsets, nil
}

// inTx runs f in a transaction that has the write lock from its start.
func (s *Store) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// classify adds history.ErrRefused to an error that lies in the data.
func classify(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return fmt.Errorf("%w: %w", history.ErrRefused, err)
	}
	return err
}
