package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// values is how many float32 values each device has; each is read once a second.
const values = 50

// A measurement begins when all values arrive, and a while after: buffers have grown.
const (
	warmUp     = 5 * time.Second
	mostWarmUp = 2 * time.Minute
)

// figures are what one measurement found.
type figures struct {
	values float64 // that arrived at the broker, per second
	cpu    float64 // µs per value
	memory float64 // MiB
}

// benchMapper reads the same simulated devices with the Modbus mapper and with
// Telegraf's inputs.modbus, in turn. Both publish JSON to the same Mosquitto with QoS 1.
// No property is reported as a twin, since Telegraf has none, and the states of
// devices, which nobody answers here, are told once a second.
func benchMapper(ctx context.Context, o options) error {
	peer, err := telegraf(ctx, o)
	if err != nil {
		return err
	}
	fmt.Println("building modbus-mapper and twinline")
	bin, err := os.MkdirTemp("", "twinline-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	err = command(ctx, o.root, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "./cmd/twinline", "./mappers/modbus/cmd/modbus-mapper")
	if err != nil {
		return err
	}
	for _, n := range o.devices {
		if err := compareMappers(ctx, o, bin, peer, n); err != nil {
			return fmt.Errorf("%d devices: %w", n, err)
		}
	}
	return nil
}

func compareMappers(ctx context.Context, o options, bin, peer string, devices int) error {
	dir, err := os.MkdirTemp("", "twinline-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	manifests := filepath.Join(dir, "manifests")
	if err := writeInputs(dir, manifests, devices); err != nil {
		return err
	}
	broker, err := launch(ctx, dir, mosquitto(), "-c", filepath.Join(dir, "mosquitto.conf"))
	if err != nil {
		return err
	}
	defer broker.stop()
	sim, err := launch(ctx, dir, filepath.Join(bin, "twinline"), "simulate", "-f", manifests)
	if err != nil {
		return err
	}
	defer sim.stop()
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := errors.Join(broker.alive(), sim.alive()); err != nil {
		return err
	}
	sides := []struct {
		name, topic string
		args        []string
		found       []figures
	}{
		{
			name: filepath.Join(bin, "modbus-mapper"), topic: "twinline/telemetry/#",
			args: []string{"--bus=tcp://" + brokerAddress, "--manifests=" + manifests, "--state=" + filepath.Join(dir, "state"), "--listen=", "--metrics=", "--twin-rate=1"},
		},
		{name: peer, topic: "telegraf/#", args: []string{"--config", filepath.Join(dir, "telegraf.conf")}},
	}
	for range o.rounds {
		for i := range sides {
			f, err := measure(ctx, o, dir, devices, sides[i].name, sides[i].args, sides[i].topic)
			if err != nil {
				return err
			}
			sides[i].found = append(sides[i].found, f)
		}
	}
	report(devices, sides[0].found, sides[1].found)
	return nil
}

// measure runs one side and watches it for a window.
func measure(ctx context.Context, o options, dir string, devices int, name string, args []string, topic string) (f figures, err error) {
	p, err := launch(ctx, dir, name, args...)
	if err != nil {
		return f, err
	}
	defer p.stop()
	count, unsubscribe, err := subscribe(topic)
	if err != nil {
		return f, err
	}
	defer unsubscribe()
	if err := settle(ctx, count, devices*values); err != nil {
		return f, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	before, err := p.cpu()
	if err != nil {
		return f, fmt.Errorf("%s has ended: %w", filepath.Base(name), err)
	}
	count.Store(0)
	began := time.Now()
	if err := pause(ctx, o.window); err != nil {
		return f, err
	}
	arrived := float64(count.Load())
	after, err := p.cpu()
	if err != nil {
		return f, fmt.Errorf("%s has ended: %w", filepath.Base(name), err)
	}
	if arrived == 0 {
		return f, errors.New(filepath.Base(name) + ": nothing arrived at the broker")
	}
	f = figures{values: arrived / time.Since(began).Seconds(), cpu: float64((after - before).Microseconds()) / arrived}
	f.memory, err = p.memory()
	return f, err
}

// settle waits until nearly all values arrive each second, and then for warmUp.
func settle(ctx context.Context, count *atomic.Int64, each int) error {
	for range int(mostWarmUp / (2 * time.Second)) {
		count.Store(0)
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		if count.Load() >= int64(2*each*9/10) {
			return pause(ctx, warmUp)
		}
	}
	return fmt.Errorf("only %d values arrived in 2 s, want %d", count.Load(), 2*each)
}

// subscribe counts the values in the messages on a topic.
func subscribe(topic string) (*atomic.Int64, func(), error) {
	count := new(atomic.Int64)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + brokerAddress).SetClientID("bench"))
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		return nil, nil, fmt.Errorf("connect to the broker: %w", t.Error())
	}
	counter := func(_ mqtt.Client, m mqtt.Message) {
		var found struct {
			Values map[string]float64 // the mapper's
			Fields map[string]float64 // Telegraf's
		}
		if json.Unmarshal(m.Payload(), &found) == nil {
			count.Add(int64(len(found.Values) + len(found.Fields)))
		}
	}
	if t := client.Subscribe(topic, 0, counter); t.Wait() && t.Error() != nil {
		return nil, nil, fmt.Errorf("subscribe to %s: %w", topic, t.Error())
	}
	return count, func() { client.Disconnect(100) }, nil
}

func report(devices int, ours, theirs []figures) {
	fmt.Printf("\nModbus TCP, %d devices x %d float32 values x 1 Hz; median of %d\n", devices, values, len(ours))
	fmt.Printf("  %-24s %12s %14s %10s\n", "", "values/s", "CPU per value", "RSS")
	line := func(name string, f []figures) figures {
		m := figures{median(f, func(f figures) float64 { return f.values }), median(f, func(f figures) float64 { return f.cpu }), median(f, func(f figures) float64 { return f.memory })}
		fmt.Printf("  %-24s %12.0f %11.2f µs %6.0f MiB\n", name, m.values, m.cpu, m.memory)
		return m
	}
	a, b := line("modbus-mapper", ours), line("telegraf "+telegrafVersion, theirs)
	fmt.Printf("  %-24s %12.2f %14.2f %10.2f\n", "ratio ours/telegraf", a.values/b.values, a.cpu/b.cpu, a.memory/b.memory)
}

func median(f []figures, of func(figures) float64) float64 {
	x := make([]float64, len(f))
	for i := range f {
		x[i] = of(f[i])
	}
	return middle(x)
}

// middle returns the median.
func middle(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// mosquitto finds the broker: Debian puts it where a user's PATH does not reach.
func mosquitto() string {
	if _, err := os.Stat("/usr/sbin/mosquitto"); err == nil {
		return "/usr/sbin/mosquitto"
	}
	return "mosquitto"
}

const (
	brokerAddress = "127.0.0.1:21883"
	firstPort     = 15020
	devicesInFile = 100 // a file of manifests has 4 MiB at most
	// brokerConfig keeps limits of the broker out of the comparison.
	brokerConfig = "listener 21883 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 100000\n"
	peerConfig   = "[agent]\n  interval = \"1s\"\n  flush_interval = \"1s\"\n  metric_buffer_limit = 100000\n  omit_hostname = true\n\n" +
		"[[outputs.mqtt]]\n  servers = [\"tcp://" + brokerAddress + "\"]\n  topic = \"telegraf/{{ .Tag \\\"name\\\" }}\"\n  qos = 1\n  data_format = \"json\"\n"
)

// writeInputs writes the configuration of the broker, the mapper, the simulator and the peer.
func writeInputs(dir, manifests string, devices int) error {
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		return err
	}
	model := "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: bench, namespace: default}\nspec:\n  protocol: modbus\n  properties:\n"
	for v := range values {
		model += fmt.Sprintf("  - {name: v%d, type: FLOAT, accessMode: ReadOnly}\n", v)
	}
	files := map[string]string{
		filepath.Join(manifests, "model.yaml"): model,
		filepath.Join(dir, "mosquitto.conf"):   brokerConfig,
	}
	var peer strings.Builder
	peer.WriteString(peerConfig)
	for first := 0; first < devices; first += devicesInFile {
		var objects strings.Builder
		for d := first; d < min(devices, first+devicesInFile); d++ {
			writeDevice(&objects, d)
			writePeerInput(&peer, d)
		}
		files[filepath.Join(manifests, fmt.Sprintf("devices-%d.yaml", first))] = objects.String()
	}
	files[filepath.Join(dir, "telegraf.conf")] = peer.String()
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func writeDevice(b *strings.Builder, d int) {
	fmt.Fprintf(b, "---\napiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: d%d, namespace: default}\nspec:\n  deviceModelRef: {name: bench}\n  nodeName: bench\n"+
		"  protocol: {protocolName: modbus, configData: {url: \"tcp://127.0.0.1:%d\", unitId: 1}}\n  properties:\n", d, firstPort+d)
	for v := range values {
		fmt.Fprintf(b, "  - {name: v%d, collectCycle: 1000, reportCycle: 1000, reportToCloud: false, visitors: {protocolName: modbus, configData: {register: holding, address: %d, type: float32}}}\n", v, 2*v)
	}
}

func writePeerInput(b *strings.Builder, d int) {
	fmt.Fprintf(b, "\n[[inputs.modbus]]\n  name = \"d%d\"\n  controller = \"tcp://127.0.0.1:%d\"\n  configuration_type = \"request\"\n  [[inputs.modbus.request]]\n    slave_id = 1\n    byte_order = \"ABCD\"\n    register = \"holding\"\n    fields = [\n", d, firstPort+d)
	for v := range values {
		fmt.Fprintf(b, "      { address=%d, name=\"v%d\", type=\"FLOAT32\" },\n", 2*v, v)
	}
	b.WriteString("    ]\n")
}
