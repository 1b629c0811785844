// Command storage takes telemetry from Kafka into a database.
package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/sqlite"
	"github.com/twinline/twinline/internal/timescale"
)

func main() {
	cfg := storage.DefaultConfig()
	app.Main(app.App{
		Name:    "storage",
		Summary: "Store telemetry from Kafka in TimescaleDB, each sample once",
		Example: "  storage --kafka kafka:9092 --database postgres://twinline@db/telemetry\n" +
			"  storage --kafka localhost:9092 --create-topics --database sqlite:telemetry.db",
		Config: &cfg,
		Build:  func(rt *app.Runtime) (service.Service, error) { return build(rt, cfg) },
	})
}

func build(rt *app.Runtime, cfg storage.Config) (service.Service, error) {
	cluster, err := cfg.Cluster("twinline-storage")
	if err != nil {
		return nil, app.ConfigError(err)
	}
	store, closeStore, err := open(cfg.Database, rt.Log)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	letters, source, err := storage.Connect(cfg, cluster, rt.Log)
	if err != nil {
		closeStore()
		return nil, app.ConfigError(err)
	}
	svc := storage.New(cfg, storage.Deps{Store: store, Source: source, Letters: letters, Log: rt.Log, Registry: rt.Registry})
	rt.API.Ready("storage", svc.Ready)
	database := service.New("database", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		closeStore()
		return nil
	})
	return service.Group("storage", database, letters, svc), nil
}

func open(database string, log *slog.Logger) (storage.Store, func(), error) {
	if file, ok := strings.CutPrefix(database, "sqlite:"); ok {
		store, err := sqlite.Open(file)
		if err != nil {
			return nil, nil, err
		}
		return store, func() { _ = store.Close() }, nil
	}
	store, err := timescale.Open(database, log)
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}
