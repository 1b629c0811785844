package timescale

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the advisory lock that one migration holds at a time in a database: "twinline" in ASCII.
const migrationLock = 0x7477696e6c696e65

// Edition is what the database offers.
type Edition string

// The editions.
const (
	Community Edition = "timescaledb community" // hypertable, compression
	Apache    Edition = "timescaledb apache"    // hypertable
	Plain     Edition = "postgresql"            // a table with BRIN
)

// Migrate brings the database to the schema of this version, and makes use of
// TimescaleDB as far as there is one. It is safe to call from several processes at
// once, and changes nothing when all is done. It refuses a schema that is newer than it knows.
func (s *Store) Migrate(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	defer conn.Release()
	c := conn.Conn()
	// lock_timeout does not mean this lock: another migration may take long.
	_, err = c.PgConn().Exec(ctx, fmt.Sprintf("SET lock_timeout = 0; SELECT pg_advisory_lock(%d)", int64(migrationLock))).ReadAll()
	if err != nil {
		return fmt.Errorf("migrate database: lock: %w", err)
	}
	defer func() { // a closed connection gives up its lock
		if ctx.Err() != nil || unlock(ctx, c) != nil {
			_ = c.Close(context.WithoutCancel(ctx))
		}
	}()
	if err := applyAll(ctx, c); err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	edition, err := s.useTimescale(ctx, c)
	if err != nil {
		return fmt.Errorf("migrate database: timescaledb: %w", err)
	}
	s.log.Info("database is ready", "edition", string(edition))
	return nil
}

func unlock(ctx context.Context, c *pgx.Conn) error {
	_, err := c.PgConn().Exec(ctx, fmt.Sprintf("SELECT pg_advisory_unlock(%d); %s", int64(migrationLock), sessionSettings)).ReadAll()
	return err
}

// applyAll applies the migrations that are not yet, each in a transaction.
func applyAll(ctx context.Context, c *pgx.Conn) error {
	const table = `CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())`
	if _, err := c.Exec(ctx, table); err != nil {
		return err
	}
	var have int
	if err := c.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&have); err != nil {
		return err
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(files)
	if have > len(files) {
		return fmt.Errorf("the database has schema version %d, this program knows up to %d", have, len(files))
	}
	for i, file := range files[have:] {
		if err := apply(ctx, c, have+i+1, file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func apply(ctx context.Context, c *pgx.Conn, version int, file string) error {
	text, err := migrations.ReadFile(file)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Conn().PgConn().Exec(ctx, string(text)).ReadAll(); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO schema_version (version, name) VALUES ($1, $2)", version, file)
		return err
	})
}

// useTimescale makes sample a hypertable, with what the edition offers, or gives it a BRIN index.
func (s *Store) useTimescale(ctx context.Context, c *pgx.Conn) (Edition, error) {
	edition, err := s.detect(ctx, c)
	if err != nil {
		return "", err
	}
	if edition != Plain {
		ok, err := s.makeHypertable(ctx, c)
		if err != nil {
			return "", err
		}
		if !ok {
			edition = Plain
		}
	}
	switch edition {
	case Plain:
		_, err = c.Exec(ctx, "CREATE INDEX IF NOT EXISTS sample_time ON sample USING brin (time)")
	case Community:
		err = compress(ctx, c)
	}
	return edition, err
}

// detect finds the edition, and creates the extension where it only needs to be.
func (s *Store) detect(ctx context.Context, c *pgx.Conn) (Edition, error) {
	// A library that is not preloaded ends the connection at CREATE EXTENSION;
	// one that is has its settings.
	const query = `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),
		EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
		AND EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%')`
	var installed, available bool
	if err := c.QueryRow(ctx, query).Scan(&installed, &available); err != nil {
		return "", err
	}
	if !installed && !available {
		return Plain, nil
	}
	if !installed {
		if _, err := c.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS timescaledb"); err != nil {
			if c.IsClosed() {
				return "", err
			}
			s.log.Warn("timescaledb is there but cannot be used", "error", err)
			return Plain, nil
		}
	}
	var license string
	if err := c.QueryRow(ctx, "SELECT coalesce(current_setting('timescaledb.license', true), '')").Scan(&license); err != nil {
		return "", err
	}
	if license == "timescale" {
		return Community, nil
	}
	return Apache, nil
}

// makeHypertable reports whether sample is a hypertable now. A plain table that
// holds data is left alone: converting it may take hours.
func (s *Store) makeHypertable(ctx context.Context, c *pgx.Conn) (bool, error) {
	var is, filled bool
	const query = `SELECT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema() AND hypertable_name = 'sample'),
		EXISTS (SELECT FROM sample)`
	if err := c.QueryRow(ctx, query).Scan(&is, &filled); err != nil {
		return false, err
	}
	switch {
	case is:
		return true, nil
	case filled:
		s.log.Warn("sample holds data and stays a plain table; to convert it run: SELECT create_hypertable('sample', 'time', create_default_indexes => false, migrate_data => true)")
		return false, nil
	}
	const create = `SELECT create_hypertable('sample', 'time', chunk_time_interval => INTERVAL '1 day', create_default_indexes => false)`
	if _, err := c.Exec(ctx, create); err != nil {
		return false, err
	}
	return true, nil
}

// compress turns compression on, with a policy. Series are compressed apart, newest first.
func compress(ctx context.Context, c *pgx.Conn) error {
	var on bool
	const query = `SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema() AND hypertable_name = 'sample'`
	if err := c.QueryRow(ctx, query).Scan(&on); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if !on {
		const enable = `ALTER TABLE sample SET (timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'time DESC')`
		if _, err := c.Exec(ctx, enable); err != nil {
			return err
		}
	}
	_, err := c.Exec(ctx, `SELECT add_compression_policy('sample', INTERVAL '7 days', if_not_exists => true)`)
	return err
}
