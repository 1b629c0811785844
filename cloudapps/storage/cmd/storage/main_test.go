package main

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/app"
)

func TestBuild(t *testing.T) {
	cfg := storage.DefaultConfig()
	rt := newRuntime()
	_, err := build(rt, cfg)
	require.ErrorIs(t, err, app.ErrConfig)
	cfg.Kafka = []string{"127.0.0.1:1"}
	for _, database := range []string{"sqlite:", "postgres://host:port/"} {
		cfg.Database = database
		_, err = build(newRuntime(), cfg)
		require.ErrorIs(t, err, app.ErrConfig)
	}
	for _, database := range []string{"sqlite:" + filepath.Join(t.TempDir(), "x.db"), "postgres://127.0.0.1:1/x"} {
		cfg.Database = database
		svc, err := build(newRuntime(), cfg)
		require.NoError(t, err)
		require.NoError(t, svc.Start(t.Context()), "it starts without Kafka and without the database")
		svc.Stop()
	}
}

func newRuntime() *app.Runtime {
	return &app.Runtime{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Registry: prometheus.NewRegistry(), API: app.NewAPI()}
}
