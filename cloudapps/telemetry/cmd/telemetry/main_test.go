package main

import (
	"io"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/cloudapps/telemetry"
	"github.com/twinline/twinline/internal/app"
)

func TestBuild(t *testing.T) {
	cfg := telemetry.DefaultConfig()
	rt := newRuntime()
	_, err := build(rt, cfg)
	require.ErrorIs(t, err, app.ErrConfig)
	cfg.Kafka, cfg.AllowAnonymous = []string{"127.0.0.1:1"}, true
	svc, err := build(newRuntime(), cfg)
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()), "it starts without Kafka")
	svc.Stop()
}

func newRuntime() *app.Runtime {
	return &app.Runtime{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Registry: prometheus.NewRegistry(), API: app.NewAPI()}
}
