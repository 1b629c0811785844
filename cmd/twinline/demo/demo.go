// Package demo is the command `twinline demo`: every part of Twinline in one
// process, wired to embedded neighbours in place of MQTT broker, KubeEdge, Kafka and database.
package demo

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/service"
)

// config is the configuration of the demo.
type config struct {
	app.Common
	Data      string `key:"data" help:"folder that keeps everything; the next run goes on with it"`
	Manifests string `key:"manifests" help:"folder of Device, DeviceModel and Simulation manifests; empty: an example is put into the data folder"`
	Rules     string `key:"rules" help:"folder of Reactions; empty: an example is put into the data folder"`
	MQTT      string `key:"mqtt" help:"address of the embedded MQTT broker"`
	Kafka     string `key:"kafka" help:"address of the embedded Kafka"`
}

func defaultConfig() *config {
	c := &config{Common: app.DefaultCommon(), Data: "data", MQTT: "127.0.0.1:11883", Kafka: "127.0.0.1:19092"}
	c.Listen, c.Metrics, c.LogLevel = "127.0.0.1:8080", "127.0.0.1:9090", "warn"
	return c
}

// Validate says what is wrong.
func (c *config) Validate() error {
	for _, a := range []struct{ key, address string }{{"listen", c.Listen}, {"mqtt", c.MQTT}, {"kafka", c.Kafka}} {
		if _, port, err := net.SplitHostPort(a.address); err != nil || port == "0" {
			return fmt.Errorf("%s: %q, want host:port", a.key, a.address)
		}
	}
	if c.Data == "" {
		return fmt.Errorf("data: name a folder")
	}
	return nil
}

// url is where the demo's own HTTP API is reached from this machine.
func (c *config) url() string {
	host, port, _ := net.SplitHostPort(c.Listen) // Validate has seen it
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// NewCommand returns the command.
func NewCommand() *cobra.Command {
	c := defaultConfig()
	a := app.App{
		Name:    "demo",
		Summary: "run all of Twinline in this process, on simulated devices",
		Example: "  twinline demo\n  twinline demo --data /tmp/twinline --listen 127.0.0.1:8081\n  twinline demo --manifests ./my-devices --log-level info",
		Config:  c,
	}
	var cmd *cobra.Command
	a.Build = func(rt *app.Runtime) (service.Service, error) {
		return build(rt, c, cmd.OutOrStdout())
	}
	cmd = a.Command()
	cmd.Long = "Demo runs the packages of the binaries, wired to embedded neighbours:\n\n" + table() +
		"\nCtrl-C stops it. The next run keeps its data."
	return cmd
}

// part is one line of what the demo is made of.
type part struct{ name, embedded, production string }

func parts() []part {
	return []part{
		{"field devices", "simulator, Modbus TCP and RTU on a pseudo terminal", "your devices"},
		{"MQTT broker", "mochi-mqtt in this process", "Mosquitto on the edge node"},
		{"KubeEdge", "a desk-sized stand-in that keeps EdgeCore's rules", "Kubernetes, CloudCore, EdgeCore"},
		{"way to the cloud", "HTTP on loopback, with a switch to cut it", "KubeEdge ServiceBus or HTTPS"},
		{"Kafka", "franz-go's kfake with a data folder", "Apache Kafka"},
		{"database", "SQLite", "TimescaleDB or PostgreSQL"},
	}
}

func table() string {
	text := fmt.Sprintf("  %-17s %-52s %s\n", "", "embedded here", "in production")
	for _, p := range parts() {
		text += fmt.Sprintf("  %-17s %-52s %s\n", p.name, p.embedded, p.production)
	}
	return text
}

// welcome tells what runs, where to look, and what is embedded.
func welcome(out io.Writer, c *config, endpoints []string) {
	data, err := filepath.Abs(c.Data)
	if err != nil {
		data = c.Data
	}
	fmt.Fprintf(out, "\nTwinline runs: %s\n\n%s\n", c.url(), table())
	for _, e := range endpoints {
		fmt.Fprintln(out, "  simulating", e)
	}
	fmt.Fprintf(out, "\n  MQTT    mosquitto_sub -p %s -t 'twinline/#' -v\n", portOf(c.MQTT))
	fmt.Fprintf(out, "  Kafka   kcat -b %s -t iot-telemetry\n", c.Kafka)
	fmt.Fprintf(out, "  SQL     sqlite3 %s 'select * from telemetry limit 10'\n", filepath.Join(data, "storage", "telemetry.db"))
	fmt.Fprintf(out, "  edit    %s and %s: changes are seen at once\n", c.Manifests, c.Rules)
	fmt.Fprintf(out, "\nCtrl-C stops it; %s is kept for the next run.\n\n", data)
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address) // Validate has seen it
	return port
}

// folders makes the folders below the data folder.
func (c *config) folders(names ...string) error {
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(c.Data, name), 0o750); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
	}
	return nil
}

func (c *config) path(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}
