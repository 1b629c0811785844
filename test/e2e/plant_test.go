package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/twinline/twinline/test/e2e/stack"
)

const (
	// edgeNamespace is where deploy/kustomize puts the edge parts.
	edgeNamespace = "iot-platform"
	// ofTwinline selects what the suite has put there.
	ofTwinline = "app.kubernetes.io/part-of=twinline"
	// suiteLabel marks the namespaces of Devices, so that a later run removes
	// what one that was killed has left.
	suiteLabel = "twinline.io/suite=e2e"

	pumpLines    = 3
	pumpsPerLine = 10
)

// The topics of the contract.
const (
	telemetryTopic  = "iot-telemetry"
	deadLetterTopic = "iot-dead-letter"
	twinsTopic      = "iot-twins"
)

// pump is one of the devices that make the load.
type pump struct {
	Name string
	Line string
	Unit int
}

// plant is what the suite runs on: the stack, simulated devices, the edge parts
// as pods, the cloud parts as processes.
type plant struct {
	stack *stack.Stack
	dir   string // of this run: manifests, logs, tokens
	bin   string

	Namespace   string // of the Devices, a new one for each run
	Node        string
	FurnaceLine string
	GaugeLine   string
	MeterLine   string // the path that the mapper opens, or that the simulator makes
	MeterUnits  []int
	BathLine    string // as MeterLine
	Receiver    string // the address of a device server
	Pumps       []pump

	token    string
	database string
	pids     map[stack.Component]int // as they were at the start
	api      map[string]string       // part: address of its API
	metrics  map[string]string

	recorder   *recorder
	simulator  *process
	tap        *process // between the bath and its mapper
	telemetry  *process
	storage    *process
	devicemgmt *process
}

// The parts that run as pods, and as processes.
func edgeParts() []string  { return []string{"modbus-mapper", "serial-mapper", "uplink", "reactor"} }
func cloudParts() []string { return []string{"telemetry", "storage", "devicemgmt"} }

// newPlant brings all of it up, empty of what earlier runs have left.
func newPlant(t *testing.T) *plant {
	t.Helper()
	var id [3]byte
	_, _ = rand.Read(id[:]) // never fails
	p := &plant{stack: bringUp(t), dir: t.TempDir(), Namespace: "plant-" + hex.EncodeToString(id[:]),
		MeterUnits: []int{1, 2}, token: hex.EncodeToString(id[:]) + "-token", api: map[string]string{}, metrics: map[string]string{}, pids: map[stack.Component]int{}}
	p.Node = p.stack.Node
	for _, h := range p.stack.Status(t.Context()) {
		p.pids[h.Component] = h.PID
	}
	p.bin = binaries(t)
	p.sweep(t)
	p.addresses(t)
	database, err := p.stack.CreateDatabase(t.Context(), "suite")
	if err != nil {
		t.Fatal(err)
	}
	p.database = database
	p.recorder = record(t, p.stack.Broker, p.Namespace)
	p.simulate(t)
	p.startCloud(t)
	p.startEdge(t)
	p.declare(t)
	return p
}

// binaries returns the folder of the parts, or fails when one is not built.
func binaries(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range append(append(edgeParts(), cloudParts()...), "twinline") {
		if _, err := os.Stat(filepath.Join(bin, part)); err != nil {
			t.Fatalf("%v: run make build", err)
		}
	}
	return bin
}

// addresses gives every part and line a port of its own.
func (p *plant) addresses(t *testing.T) {
	t.Helper()
	parts := append(edgeParts(), cloudParts()...)
	free := freeAddresses(t, 3+pumpLines+2*len(parts))
	take := func() string {
		address := free[0]
		free = free[1:]
		return address
	}
	p.FurnaceLine, p.GaugeLine, p.Receiver = take(), take(), take()
	for line := range pumpLines {
		address := take()
		for unit := range pumpsPerLine {
			p.Pumps = append(p.Pumps, pump{fmt.Sprintf("pump-%02d", line*pumpsPerLine+unit+1), address, unit + 1})
		}
	}
	for _, part := range parts {
		p.api[part], p.metrics[part] = take(), take()
	}
}

// freeAddresses returns loopback addresses that nothing listens on. They are
// below the ports that the kernel gives to clients, so nobody takes them meanwhile.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	const first, last = 23000, 25000
	var free []string
	for port := first; port < last && len(free) < n; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			free = append(free, address)
		}
	}
	if len(free) < n {
		t.Fatalf("%d ports are free from %d to %d, want %d", len(free), first, last, n)
	}
	return free
}

// id returns a device as the contracts name it.
func (p *plant) id(name string) string { return p.Namespace + "/" + name }

// render executes a template of testdata.
func render(t *testing.T, name string, data any) []byte {
	t.Helper()
	parsed, err := template.ParseFiles(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// write writes a file of the run and returns its path.
func (p *plant) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// simulate plays the devices. The meters' line is a pseudo terminal, which the
// simulator makes and the mapper's pod has mounted at /dev/rtu0.
func (p *plant) simulate(t *testing.T) {
	t.Helper()
	onHost := *p
	onHost.MeterLine, onHost.BathLine = filepath.Join(p.dir, "rtu0"), filepath.Join(p.dir, "bath")
	p.MeterLine, p.BathLine = "/dev/rtu0", "/dev/bath"
	devices := p.write(t, "simulated/devices.yaml", render(t, "plant.yaml", onHost))
	script := p.write(t, "simulated/script.yaml", render(t, "simulation.yaml", onHost))
	p.simulator = launch(t, p.dir, "simulator", filepath.Join(p.bin, "twinline"), "simulate", "-f", devices, "-f", script)
	eventually(t, 20*time.Second, "devices answer", func() error {
		if err := p.simulator.ended(); err != nil {
			return stop{err}
		}
		if _, err := os.Stat(onHost.MeterLine); err != nil {
			return err
		}
		if said := p.simulator.text(); strings.Contains(said, "level=WARN") {
			return stop{errors.New(said)}
		}
		return shows(t.Context(), p.Pumps[len(p.Pumps)-1].Line, pumpsPerLine, holdingTable, 0, 0, 0)
	})
	p.tapBath(t, onHost.BathLine)
}

// startCloud starts the cloud parts as an operator would outside of a cluster.
func (p *plant) startCloud(t *testing.T) {
	t.Helper()
	tokens := p.write(t, "tokens", []byte(p.token+"\n"))
	common := func(part string, flags ...string) []string {
		return append([]string{filepath.Join(p.bin, part), "--listen=" + p.api[part], "--metrics=" + p.metrics[part],
			"--kafka=" + p.stack.Kafka, "--create-topics", "--topic-partitions=4"}, flags...)
	}
	p.telemetry = launch(t, p.dir, "telemetry", common("telemetry", "--tokens="+tokens)...)
	p.storage = launch(t, p.dir, "storage", common("storage", "--database="+p.database, "--instance=suite")...)
	p.devicemgmt = launch(t, p.dir, "devicemgmt", common("devicemgmt", "--tokens="+tokens, "--kubeconfig="+p.stack.Kubeconfig,
		"--telemetry-url=http://"+p.api["telemetry"]+"/servicebus")...)
	for _, part := range []*process{p.telemetry, p.storage, p.devicemgmt} {
		part.ready(t, p.api[part.name])
	}
}

// declare applies the Devices to the API server. Namespace and Devices go at the end of the test.
func (p *plant) declare(t *testing.T) {
	t.Helper()
	name, value, _ := strings.Cut(suiteLabel, "=")
	apply(t, p.stack, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s: %s}}\n", p.Namespace, name, value))
	apply(t, p.stack, string(render(t, "plant.yaml", p)))
}

// sweep removes what a run that was killed has left.
func (p *plant) sweep(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	p.removeEdge(t)
	if _, err := p.stack.Kubectl(ctx, nil, "delete", "namespace", "-l", suiteLabel, "--wait=true", "--timeout=90s"); err != nil {
		t.Fatal(err)
	}
	p.removeTopics(ctx, t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		p.removeTopics(ctx, t)
	})
}

// removeTopics deletes the topics of the contract, so that no run reads what another has sent.
func (p *plant) removeTopics(ctx context.Context, t *testing.T) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.stack.Kafka))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics := []string{telemetryTopic, deadLetterTopic, twinsTopic}
	have, err := admin.ListTopics(ctx, topics...)
	if err != nil {
		t.Errorf("list topics: %v", err)
		return
	}
	for _, topic := range topics {
		if !have.Has(topic) {
			continue
		}
		if _, err := admin.DeleteTopic(ctx, topic); err != nil {
			t.Errorf("delete topic %s: %v", topic, err)
		}
	}
}
