package demo

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/cloudapps/devicemgmt"
	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/cloudapps/telemetry"
	"github.com/twinline/twinline/cmd/twinline/simulate"
	"github.com/twinline/twinline/edgeapps/reactor"
	"github.com/twinline/twinline/edgeapps/uplink"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/broker"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/desk"
	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/simulator"
	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/internal/sqlite"
	"github.com/twinline/twinline/mappers/modbus"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mapperapp"
)

// node is the edge node that the demo plays.
const node = "desk"

// demo is what the parts share while they are wired.
type demo struct {
	*config
	rt      *app.Runtime
	cluster kafka.Cluster
	desk    *desk.Desk
	members []service.Service // in the order of their start
}

// build wires everything. Members start in order and stop in reverse, so that
// each finds what it needs from start to end.
func build(rt *app.Runtime, c *config, out io.Writer) (service.Service, error) {
	if err := c.folders("mapper", "uplink", "reactor", "kafka", "storage"); err != nil {
		return nil, err
	}
	if err := c.putExamples(); err != nil {
		return nil, err
	}
	d := &demo{config: c, rt: rt, cluster: kafka.Cluster{Brokers: []string{c.Kafka}, ClientID: "twinline-demo"}}
	sim, err := d.simulator()
	if err != nil {
		return nil, err
	}
	d.members = append(d.members, broker.New(c.MQTT), d.kafka(), sim)
	for _, add := range []func() error{d.addDesk, d.addTelemetry, d.addStorage, d.addDeviceMgmt, d.addUplink, d.addReactor, d.addMapper} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	d.members = append(d.members, service.New("welcome", func(ctx context.Context, ready func()) error {
		welcome(out, c, sim.Endpoints())
		ready()
		<-ctx.Done()
		fmt.Fprintln(out, "stopping; what is on its way is kept for the next run")
		return nil
	}))
	return service.Group("demo", d.members...), nil
}

// log and registry keep the parts apart in logs and metrics.
func (d *demo) log(part string) *slog.Logger { return d.rt.Log.With("part", part) }

func (d *demo) registry(part string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"part": part}, d.rt.Registry)
}

// bus returns a part's own connection to the broker.
func (d *demo) bus(part string, persistent bool) *bus.Client {
	return bus.New(bus.Config{URL: "tcp://" + d.MQTT, ClientID: part, Persistent: persistent, Log: d.log(part), Registry: d.registry(part)})
}

func (d *demo) simulator() (*simulator.Simulator, error) {
	devices, script, problems, err := simulate.Load([]string{d.Manifests})
	if err != nil {
		return nil, app.ConfigError(err)
	}
	sim, more := simulator.New(devices, script, d.log("simulator"))
	for _, p := range append(problems, more...) {
		d.log("simulator").Warn(p.Error())
	}
	return sim, nil
}

// kafka is the embedded Kafka with the topics of Twinline.
func (d *demo) kafka() service.Service {
	return service.New("kafka", func(ctx context.Context, ready func()) error {
		broker, err := kafka.StartEmbedded(d.path("kafka"), d.Kafka, 3, kafka.TelemetryTopic, kafka.DeadLetterTopic, twinsTopic)
		if err != nil {
			return err
		}
		defer broker.Close()
		ready()
		<-ctx.Done()
		return nil
	})
}

func (d *demo) addDesk() (err error) {
	client := d.bus("desk", false)
	d.desk, err = desk.New(desk.Config{Manifests: d.Manifests, StateFile: d.path("desired.json"), Node: node}, desk.Deps{Bus: client, Log: d.log("desk")})
	if err != nil {
		return app.ConfigError(err)
	}
	d.rt.API.Handle("GET /demo/link", linkHandler(d.desk))
	d.rt.API.Handle("POST /demo/link", linkHandler(d.desk))
	d.rt.API.Handle("GET /demo/about", aboutHandler())
	d.members = append(d.members, client, d.desk)
	return nil
}

func (d *demo) addTelemetry() error {
	producer, err := kafka.NewProducer(kafka.ProducerConfig{Cluster: d.cluster}, d.log("telemetry"))
	if err != nil {
		return err
	}
	cfg := telemetry.DefaultConfig()
	cfg.AllowAnonymous = true
	svc, err := telemetry.New(cfg, telemetry.Deps{Producer: producer, Log: d.log("telemetry"), Registry: d.registry("telemetry")}, d.rt.API)
	d.members = append(d.members, producer, svc)
	return err
}

func (d *demo) addStorage() error {
	cfg := storage.DefaultConfig()
	letters, source, err := storage.Connect(cfg, d.cluster, d.log("storage"))
	if err != nil {
		return err
	}
	store, err := sqlite.Open(d.path("storage", "telemetry.db"))
	if err != nil {
		return app.ConfigError(err)
	}
	closing := service.New("database", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		return store.Close()
	})
	svc := storage.New(cfg, storage.Deps{Store: store, Source: source, Letters: letters, Log: d.log("storage"), Registry: d.registry("storage")})
	d.rt.API.Ready("storage", svc.Ready)
	d.members = append(d.members, closing, letters, svc)
	return nil
}

func (d *demo) addDeviceMgmt() error {
	producer, err := kafka.NewProducer(kafka.ProducerConfig{Cluster: d.cluster}, d.log("devicemgmt"))
	if err != nil {
		return err
	}
	svc := devicemgmt.New(devicemgmt.Config{}, devicemgmt.Deps{
		Cluster: d.desk, Text: devicemgmt.EdgeCoreText(), Auth: devicemgmt.Anonymous{},
		Publisher: twins{producer}, Log: d.log("devicemgmt"), Registry: d.registry("devicemgmt"),
	})
	svc.Routes(d.rt.API)
	d.rt.API.Ready("devicemgmt", svc.CheckCluster)
	d.members = append(d.members, producer, svc)
	return nil
}

// addUplink puts the bus behind uplink: nothing reaches it that nobody stores.
func (d *demo) addUplink() error {
	https, err := forward.NewHTTPS(d.url()+"/api/v1/batches", "", "")
	if err != nil {
		return err
	}
	client := d.bus("uplink", true)
	up, err := uplink.New(uplink.Config{Node: node, Dir: d.path("uplink")}, uplink.Deps{
		Bus:    client,
		Sender: &gate{desk: d.desk, next: https},
		Open:   func() (uplink.Store, error) { return spool.Open(spool.Config{Dir: d.path("uplink")}) },
		Log:    d.log("uplink"), Registry: d.registry("uplink"),
	})
	if err != nil {
		return err
	}
	d.rt.API.Ready("uplink", up.Ready)
	d.rt.API.Handle("GET /api/v1/spool", up.Handler())
	d.members = append(d.members, up, client)
	return nil
}

func (d *demo) addReactor() error {
	store, err := reactor.NewFileStore(d.path("reactor"), d.log("reactor"))
	if err != nil {
		return err
	}
	client := d.bus("reactor", false)
	svc := reactor.New(reactor.Deps{Bus: client, Rules: reactor.NewFolder(d.Rules), Store: store, Log: d.log("reactor"), Registry: d.registry("reactor")})
	d.members = append(d.members, client, svc)
	return nil
}

func (d *demo) addMapper() error {
	store, err := mapperapp.OpenFileStore(d.path("mapper"))
	if err != nil {
		return app.ConfigError(err)
	}
	closing := service.New("state", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		return store.Close()
	})
	client := d.bus("modbus-mapper", false)
	reporter := edgecore.NewReporter(edgecore.Config{Bus: client, Node: node, Log: d.log("modbus-mapper"), Registry: d.registry("modbus-mapper")})
	driver := modbus.New()
	m, err := mapper.New(mapper.Config{Name: "modbus-mapper", Driver: driver, Source: d.desk.Source(driver.Protocol()), Bus: client, Twins: reporter, Store: store, Log: d.log("modbus-mapper")})
	d.members = append(d.members, closing, client, reporter, m)
	return err
}
