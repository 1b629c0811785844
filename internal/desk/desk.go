// Package desk stands in for Kubernetes, CloudCore and EdgeCore at the size of a
// desk: one process, one node, Devices from a folder of manifests. It is for the
// demo and for tests, and holds to KubeEdge's rules and faults where a mapper
// or a user of twins can see them: what EdgeCore refuses, that twins reported while
// the link is down never reach the cloud, that the first report of each
// property is lost. It is no KubeEdge: nothing runs on other machines, and
// what makes a cluster safe (accounts, admission, replication) is not there.
package desk

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/pkg/twin"
)

// Config says where the desk finds and keeps its things.
type Config struct {
	Manifests string // folder of YAML files with Devices and DeviceModels; read again when changed
	StateFile string // keeps desired values that were set; "": they are lost with the process
	Node      string // the edge node that is played; Devices of other nodes are shown, not served
}

// Bus is the node's MQTT broker, as mapper.Bus.
type Bus interface {
	// Publish sends with QoS 1 and returns when the broker has it, or ctx ends.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Subscribe calls handle for every message that matches filter, one at a time.
	Subscribe(filter string, handle func(topic string, payload []byte)) (unsubscribe func(), err error)
}

// Deps is what a Desk works with.
type Deps struct {
	Bus Bus // the node's broker
	Log *slog.Logger
}

// Bounds of the desk.
const (
	maxInbox    = 1024        // messages from the bus that wait; beyond it they are dropped and counted
	reloadEvery = time.Second // how often the folder is looked at
)

// Desk is the service. Stop takes as long as one Publish on the bus.
type Desk struct {
	*service.Runner
	config Config
	deps   Deps
	now    func() time.Time

	dropped atomic.Int64

	mu    sync.Mutex
	cloud *cloud // what Kubernetes and CloudCore hold
	edge  *edge  // what EdgeCore holds
	link  twin.LinkState

	mark folderMark // of the manifests that are held; used by New, then by the one body that runs
}

// New returns a desk whose link is up. It reads the manifests and the state file, so that
// Cluster and Source can be used at once.
func New(c Config, deps Deps) (*Desk, error) {
	d := &Desk{config: c, deps: deps, now: time.Now, cloud: newCloud()}
	d.link = twin.LinkState{Node: c.Node, Up: true, Since: d.now().UTC()}
	d.edge = newEdge(d.now)
	if err := d.loadState(); err != nil {
		return nil, err
	}
	if err := d.reload(); err != nil {
		return nil, err
	}
	d.Runner = service.New("desk", d.body)
	return d, nil
}

// body plays EdgeCore on the bus and keeps the folder in sight.
func (d *Desk) body(ctx context.Context, ready func()) error {
	inbox := make(chan message, maxInbox)
	put := func(topic string, payload []byte) { d.put(inbox, message{topic, payload}) }
	for _, filter := range []string{deviceTopics, nodeTopics} {
		unsubscribe, err := d.deps.Bus.Subscribe(filter, put)
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", filter, err)
		}
		defer unsubscribe()
	}
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	ready()
	for {
		select {
		case m := <-inbox:
			for _, answer := range d.handle(m) {
				if err := d.deps.Bus.Publish(ctx, answer.topic, answer.payload); err != nil && ctx.Err() == nil {
					d.deps.Log.Warn("an answer of the desk is lost", "topic", answer.topic, "error", err)
				}
			}
		case <-tick.C:
			if err := d.reload(); err != nil {
				d.deps.Log.Warn("manifests cannot be read; the last ones stay", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// put never blocks the bus.
func (d *Desk) put(inbox chan<- message, m message) {
	select {
	case inbox <- m:
	default:
		d.dropped.Add(1)
	}
}

// Link returns the state of the link between the node and the cloud.
func (d *Desk) Link() twin.LinkState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link
}

// SetLink cuts or restores the link. While it is down twins and states
// that are reported do not reach the cloud, for good, and desired values that are set
// do not reach the edge; those do once it is up again.
func (d *Desk) SetLink(up bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link.Up == up {
		return
	}
	d.link = twin.LinkState{Node: d.config.Node, Up: up, Since: d.now().UTC()}
	d.deliver()
	d.deps.Log.Info("cloud link", "up", up)
}

// deliver brings the node's Devices and Models to the edge if the link is up. d.mu is held.
func (d *Desk) deliver() {
	if d.link.Up {
		devices, models := d.cloud.of(d.config.Node)
		d.edge.deliver(devices, models)
	}
}

// Dropped returns how many messages from the bus were lost because too many waited.
func (d *Desk) Dropped() int { return int(d.dropped.Load()) }

// Jammed returns the devices for which a real EdgeCore would have stopped
// answering, because of a message that Twinline must never send.
func (d *Desk) Jammed() []twin.DeviceID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.edge.jammed()
}
