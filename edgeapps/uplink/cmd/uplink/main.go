// Command uplink brings a node's telemetry to the cloud.
package main

import (
	"path/filepath"

	"github.com/twinline/twinline/edgeapps/uplink"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/spool"
)

func main() {
	cfg := defaultConfig()
	app.Main(app.App{
		Name:    "uplink",
		Summary: "Keep the node's telemetry on disk until the cloud has it",
		Example: "  uplink --node edge-1 --spool /var/lib/twinline --to servicebus://127.0.0.1:9060\n" +
			"  uplink --node edge-1 --spool /var/lib/twinline --to https://telemetry.example.com --token-file /etc/twinline/token",
		Config: &cfg,
		Build:  func(rt *app.Runtime) (service.Service, error) { return build(rt, cfg) },
	})
}

// build wires the parts. The bus starts last and stops first: nothing reaches it
// that nobody stores.
func build(rt *app.Runtime, cfg config) (service.Service, error) {
	sender, err := newSender(cfg)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	busConfig := bus.Config{URL: cfg.Bus, ClientID: clientID(cfg.Node), Persistent: true, Log: rt.Log, Registry: rt.Registry}
	if err := busConfig.Validate(); err != nil {
		return nil, app.ConfigError(err)
	}
	client := bus.New(busConfig)
	dir, err := filepath.Abs(cfg.Spool)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	up, err := uplink.New(cfg.uplink(dir), uplink.Deps{
		Bus:      client,
		Sender:   sender,
		Open:     func() (uplink.Store, error) { return spool.Open(cfg.spool(dir)) },
		Log:      rt.Log,
		Registry: rt.Registry,
	})
	if err != nil {
		return nil, app.ConfigError(err)
	}
	rt.API.Ready("uplink", up.Ready)
	rt.API.Handle("GET /api/v1/spool", up.Handler())
	return service.Group("uplink", up, client), nil
}
