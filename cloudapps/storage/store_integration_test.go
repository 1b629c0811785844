//go:build integration

package storage_test

import (
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/cloudapps/storage/storagetest"
	"github.com/twinline/twinline/internal/timescale"
	"github.com/twinline/twinline/internal/timescale/pgtest"
)

func TestPostgreSQLConforms(t *testing.T) { postgresSuite(pgtest.Start(t)).Run(t) }

func TestTimescaleDBConforms(t *testing.T) { postgresSuite(pgtest.Timescale(t)).Run(t) }

func postgresSuite(server *pgtest.Server) storagetest.Suite {
	return storagetest.Suite{
		New: func(t testing.TB) (storagetest.Database, func() storagetest.Database) {
			dsn := server.Database(t)
			open := func() storagetest.Database { return openPostgres(t, dsn) }
			return open(), open
		},
		Refuse: func(t testing.TB, db storagetest.Database, text string) {
			_, err := db.(*timescale.Store).Pool().Exec(t.Context(), "ALTER TABLE sample ADD CHECK (value_text <> '"+text+"')")
			require.NoError(t, err)
		},
	}
}

func openPostgres(t testing.TB, dsn string) *timescale.Store {
	t.Helper()
	store, err := timescale.Open(dsn, slog.New(slog.NewTextHandler(io.Discard, nil)))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store
}
