// Command telemetry takes telemetry from the edge, and from anyone with a token, into Kafka.
package main

import (
	"github.com/twinline/twinline/cloudapps/telemetry"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service"
)

func main() {
	cfg := telemetry.DefaultConfig()
	app.Main(app.App{
		Name:    "telemetry",
		Summary: "Take telemetry into Kafka, and say so only when it is there",
		Example: "  telemetry --kafka kafka:9092 --tokens /etc/twinline/tokens\n" +
			"  telemetry --kafka localhost:9092 --create-topics --allow-anonymous",
		Config: &cfg,
		Build:  func(rt *app.Runtime) (service.Service, error) { return build(rt, cfg) },
	})
}

func build(rt *app.Runtime, cfg telemetry.Config) (service.Service, error) {
	cluster, err := cfg.Cluster("twinline-telemetry")
	if err != nil {
		return nil, app.ConfigError(err)
	}
	topics, err := cfg.Topics(cfg.Topic)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	producer, err := kafka.NewProducer(kafka.ProducerConfig{Cluster: cluster, Topics: topics, Create: cfg.CreateTopics}, rt.Log)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	svc, err := telemetry.New(cfg, telemetry.Deps{Producer: producer, Log: rt.Log, Registry: rt.Registry}, rt.API)
	if err != nil {
		return nil, app.ConfigError(err)
	}
	return service.Group("telemetry", producer, svc), nil
}
