package storage_test

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/twinline/twinline/cloudapps/storage/storagetest"
	"github.com/twinline/twinline/internal/sqlite"
)

func TestSQLiteConforms(t *testing.T) {
	var file string
	storagetest.Suite{
		New: func(t testing.TB) (storagetest.Database, func() storagetest.Database) {
			file = filepath.Join(t.TempDir(), "a #?%.db")
			open := func() storagetest.Database { return openSQLite(t, file) }
			return open(), open
		},
		Refuse: func(t testing.TB, _ storagetest.Database, text string) {
			db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file}).String())
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			_, err = db.Exec("CREATE TRIGGER refuse BEFORE INSERT ON sample WHEN NEW.value_text = '" + text + "' BEGIN SELECT RAISE(ABORT, 'refused'); END")
			require.NoError(t, err)
		},
	}.Run(t)
}

func openSQLite(t testing.TB, file string) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(file)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}
