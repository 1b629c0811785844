// Command reactor runs the Reactions of an edge node.
package main

import (
	"errors"

	"github.com/twinline/twinline/edgeapps/reactor"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/service"
)

func main() {
	cfg := reactor.DefaultConfig()
	app.Main(app.App{
		Name:    "reactor",
		Summary: "Run the Reactions of an edge node, with or without the cloud",
		Example: "  reactor --rules /etc/twinline/rules --state /var/lib/twinline\n" +
			"  reactor --bus tls://broker:8883 --node edge-a --rules rules; curl localhost:8080/api/v1/rules",
		Config: &cfg,
		Build:  func(rt *app.Runtime) (service.Service, error) { return build(rt, cfg) },
	})
}

func build(rt *app.Runtime, cfg reactor.Config) (service.Service, error) {
	broker := bus.Config{URL: cfg.Bus, ClientID: "twinline-reactor-" + cfg.Node, Log: rt.Log, Registry: rt.Registry}
	if err := broker.Validate(); err != nil {
		return nil, app.ConfigError(err)
	}
	store := reactor.Store(reactor.NoStore{})
	if cfg.State == "" {
		rt.Log.Warn("no --state folder: after a restart, what was claimed before ends by its ttl only")
	} else {
		files, err := reactor.NewFileStore(cfg.State, rt.Log)
		if err != nil {
			return nil, app.ConfigError(err)
		}
		store = files
	}
	client := bus.New(broker)
	svc := reactor.New(reactor.Deps{Bus: client, Rules: reactor.NewFolder(cfg.Rules), Store: store, Log: rt.Log, Registry: rt.Registry})
	rt.API.Handle("GET /api/v1/rules", svc)
	rt.API.Ready("rules", svc.Ready)
	rt.API.Ready("bus", func() error {
		if !client.Connected() {
			return errors.New("the broker is not connected")
		}
		return nil
	})
	return service.Group("reactor", client, svc), nil
}
