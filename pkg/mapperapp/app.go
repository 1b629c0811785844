package mapperapp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/internal/metaserver"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/pkg/mapper"
)

// Options describe the binary of a mapper.
type Options struct {
	Name    string // of the binary: "modbus-mapper"
	Version string // empty: that of Twinline
	Summary string // one line
	Example string // for --help, each line indented by two spaces; empty: a standard one

	// New returns the driver. It is called once, after the configuration is
	// loaded. A driver that is also a service (Start, Stop, Done, Err, as
	// mapper.Mapper has) is started before the devices are opened and stopped
	// after they are closed.
	New func(Runtime) (mapper.Driver, error)
}

// Runtime is what a driver gets from the binary.
type Runtime struct {
	Log      *slog.Logger
	Registry prometheus.Registerer // for the driver's metrics, named twinline_<protocol>_…
	Node     string                // the edge node; empty: every node's devices are served
}

// Main runs the binary until SIGTERM or an interrupt, and exits: 0 after a
// stop, 2 where the configuration is wrong, else 1.
func Main(o Options) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := o.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs the binary with args until ctx ends and returns its exit code.
func (o Options) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := defaultConfig()
	if o.Example == "" {
		o.Example = fmt.Sprintf("  %[1]s --node edge-1 --state /var/lib/%[1]s\n  %[1]s --manifests ./devices --bus tcp://127.0.0.1:1883", o.Name)
	}
	cmd := app.App{
		Name: o.Name, Summary: o.Summary, Example: o.Example, Config: &c,
		Build: func(rt *app.Runtime) (service.Service, error) { return o.build(rt, c) },
	}.Command()
	if o.Version != "" {
		cmd.Version = o.Version
	}
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return app.ExitCode(cmd.ExecuteContext(ctx), stderr)
}

// config is the configuration of every mapper.
type config struct {
	app.Common
	Bus        string  `key:"bus" help:"the node's MQTT broker"`
	Node       string  `key:"node" help:"the edge node whose devices are served; default the host's name, or with --manifests every node"`
	Metaserver string  `key:"metaserver" help:"where Devices and DeviceModels come from"`
	Manifests  string  `key:"manifests" help:"folder of Device and DeviceModel YAML, instead of --metaserver"`
	State      string  `key:"state" help:"folder that keeps the epoch and what desired values were dealt with; without it a restart cannot tell a new desired value from an old one"`
	TwinRate   float64 `key:"twin-rate" help:"twin messages a second of all devices; EdgeHub sends 30 of everything"`
}

// maxTwinRate is EdgeHub's default messageQPS: more is never delivered.
const maxTwinRate = 30

func defaultConfig() config {
	return config{Common: app.DefaultCommon(), Bus: bus.DefaultURL, Metaserver: metaserver.DefaultURL, TwinRate: edgecore.DefaultRate}
}

// Validate is called when the configuration is loaded. Without a node it takes
// the host's name, as EdgeCore does; of a folder of manifests it takes every node's.
func (c *config) Validate() error {
	if c.TwinRate <= 0 || c.TwinRate > maxTwinRate {
		return fmt.Errorf("twin-rate: %g, want more than 0 and at most %d", c.TwinRate, maxTwinRate)
	}
	if c.Manifests != "" {
		if info, err := os.Stat(c.Manifests); err != nil || !info.IsDir() {
			return fmt.Errorf("manifests: %s is not a folder", c.Manifests)
		}
		return c.busConfig("").Validate()
	}
	if err := (metaserver.Config{URL: c.Metaserver}).Validate(); err != nil {
		return err
	}
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node: give the name of the edge node: %w", err)
		}
		c.Node = strings.ToLower(host)
	}
	return c.busConfig("").Validate()
}

func (c *config) busConfig(name string) bus.Config {
	id := strings.TrimSuffix(name+"-"+c.Node, "-")
	return bus.Config{URL: c.Bus, ClientID: id[:min(len(id), bus.MaxClientIDLength)]}
}

// build wires the parts. They start in order, and stop in reverse: the mapper
// first, so that what it says last still finds the broker.
func (o Options) build(rt *app.Runtime, c config) (service.Service, error) {
	driver, err := o.New(Runtime{Log: rt.Log, Registry: rt.Registry, Node: c.Node})
	if err != nil {
		return nil, fmt.Errorf("make the driver: %w", err)
	}
	busConfig := c.busConfig(o.Name)
	busConfig.Log, busConfig.Registry = rt.Log, rt.Registry
	client := bus.New(busConfig)
	reporter := edgecore.NewReporter(edgecore.Config{Bus: client, Node: c.Node, Rate: c.TwinRate, Log: rt.Log, Registry: rt.Registry})
	parts := []service.Service{client, reporter}
	m := mapper.Config{Name: o.Name, Driver: driver, Source: newSource(c, driver.Protocol(), rt.Log), Bus: client, Twins: reporter, Log: rt.Log}
	if c.State != "" {
		store, err := OpenFileStore(c.State)
		if err != nil {
			return nil, app.ConfigError(err)
		}
		m.Store = store
		parts = append([]service.Service{holding(store)}, parts...)
	}
	if s, ok := driver.(service.Service); ok {
		parts = append(parts, s)
	}
	mp, err := mapper.New(m)
	if err != nil {
		return nil, err
	}
	rt.Registry.MustRegister(&collector{mp})
	serveAPI(rt.API, mp)
	rt.API.Ready("bus", func() error {
		if !client.Connected() {
			return fmt.Errorf("no connection to the broker %s", c.Bus)
		}
		return nil
	})
	rt.API.Ready("devices", func() error {
		if mp.Stats().Snapshots == 0 {
			return fmt.Errorf("the devices are not known yet: %s", c.origin())
		}
		return nil
	})
	return service.Group(o.Name, append(parts, mp)...), nil
}

// origin says where devices come from.
func (c *config) origin() string {
	if c.Manifests != "" {
		return "the folder " + c.Manifests + " was not read"
	}
	return "MetaServer at " + c.Metaserver + " has not answered"
}

// holding closes the store when all that use it have stopped.
func holding(s *FileStore) service.Service {
	return service.New("state", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		return s.Close()
	})
}
