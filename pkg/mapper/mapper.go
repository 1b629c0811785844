package mapper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

const (
	// drain bounds how long a stop, or a device that is gone, waits for the broker
	// to take what is queued.
	drain = 2 * time.Second
	// maxGone bounds the devices that are gone whose last position is kept, so that one that
	// comes back goes on with its sequence.
	maxGone = 65_536
	// maxAckSize bounds an acknowledgement: 10,000 devices of 320 bytes and some.
	maxAckSize = 4 << 20
)

// Mapper serves the devices of one Driver. It is started and stopped as a
// service; its other methods may be called at any time and from any goroutine.
type Mapper struct {
	cfg  Config
	life lifecycle
	now  atomic.Pointer[run] // the current or last run
}

// New returns a Mapper, or says what is missing in c. It does no I/O.
func New(c Config) (*Mapper, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	return &Mapper{cfg: c}, nil
}

// run is a Mapper from one Start to its end.
type run struct {
	cfg     *Config
	guard   guard
	backlog *backlog
	results *results
	counts  counts
	once    once
	epoch   uint64
	began   time.Time // the origin of the polls' grain

	mu        sync.RWMutex
	devices   map[twin.DeviceID]*device
	gone      map[twin.DeviceID]twin.Position
	declared  []twin.Problem // of the Source and of snapshots
	snapshots uint64
	past      past

	pending chan snapshot // capacity 1: the newest snapshot that is not applied
}

// past sums what devices that are gone have counted.
type past struct {
	states  map[twin.WriteState]uint64
	refused uint64
}

type snapshot struct {
	devices  []twin.Device
	problems []twin.Problem
}

func newRun(c *Config, epoch uint64) *run {
	r := &run{
		cfg: c, backlog: newBacklog(c), results: newResults(), epoch: epoch, began: time.Now(),
		devices: map[twin.DeviceID]*device{}, gone: map[twin.DeviceID]twin.Position{},
		past: past{states: map[twin.WriteState]uint64{}}, pending: make(chan snapshot, 1),
	}
	r.guard = guard{driver: c.Driver, panicked: func(what string, cause any, stack []byte) {
		r.counts.panics.Add(1)
		if r.once.first(fmt.Sprint("panic", what, cause)) {
			c.Log.Error("the driver panicked; logged once", "in", what, "panic", cause, "stack", string(stack))
		}
	}}
	return r
}

// serve is the body of the service.
func (m *Mapper) serve(ctx context.Context, ready func()) error {
	epoch := FirstEpoch()
	if m.cfg.Store == nil {
		m.cfg.Log.Warn("nothing is kept on disk: a restart cannot tell a new desired value from an old one, so values that are there at start are not written")
	} else {
		var err error
		if epoch, err = m.cfg.Store.NextEpoch(); err != nil {
			return fmt.Errorf("take the next epoch: %w", err)
		}
	}
	r := newRun(&m.cfg, epoch)
	m.now.Store(r)
	unsubscribe, err := r.subscribe()
	defer unsubscribe()
	if err != nil {
		return err
	}
	following, stopFollowing := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.cfg.Source.Run(following, r.offer) }()
	stopSending := r.sendResults(ctx)
	defer func() {
		stopFollowing()
		if ended != nil {
			<-ended //nolint:errcheck // it was asked to end
		}
		unsubscribe()
		r.shutdown()
		stopSending()
	}()
	ready()
	for {
		select {
		case s := <-r.pending:
			r.apply(ctx, s)
		case err := <-ended:
			ended = nil
			if err == nil && ctx.Err() == nil {
				err = errors.New("it ended")
			}
			if err != nil {
				return fmt.Errorf("follow the source of devices: %w", err)
			}
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// subscribe makes both subscriptions at once: each may wait some seconds for a
// broker that is away.
func (r *run) subscribe() (unsubscribe func(), err error) {
	filters := [...]string{twin.AllCommands, twin.AllAcks}
	handlers := [...]func(string, []byte){r.onCommand, r.onAck}
	var undo [len(filters)]func()
	var errs [len(filters)]error
	var wg sync.WaitGroup
	for i, filter := range filters {
		wg.Go(func() {
			var err error
			if undo[i], err = r.cfg.Bus.Subscribe(filter, handlers[i]); err != nil {
				errs[i] = fmt.Errorf("subscribe to %s: %w", filter, err)
			}
		})
	}
	wg.Wait()
	return sync.OnceFunc(func() {
		for i, u := range undo {
			if errs[i] == nil {
				u()
			}
		}
	}), errors.Join(errs[:]...)
}

// sendResults starts the sender of results; stop gives it a moment to end, and waits for it.
func (r *run) sendResults(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.results.send(ctx, r.cfg.Bus, r.cfg.Log)
	}()
	return func() {
		defer cancel()
		r.results.finish()
		moment := time.AfterFunc(drain/4, cancel)
		defer moment.Stop()
		<-done
	}
}

// offer takes a snapshot from the Source; only the newest waits.
func (r *run) offer(devices []twin.Device, problems []twin.Problem) {
	for {
		select {
		case r.pending <- snapshot{devices, problems}:
			return
		case <-r.pending:
		}
	}
}

// apply makes the devices of s the devices in service.
func (r *run) apply(ctx context.Context, s snapshot) {
	want, problems := r.choose(s)
	var wg sync.WaitGroup
	for id, d := range maps.Clone(r.devices) { // only this goroutine changes it
		spec, ok := want[id]
		switch {
		case !ok:
			wg.Go(func() { r.remove(d) })
		case !sameDevice(*d.spec.Load(), spec):
			wg.Go(func() {
				d.close()
				d.redeclare(spec)
				d.open(ctx)
			})
		case !reflect.DeepEqual(*d.spec.Load(), spec):
			d.redeclare(spec)
		}
	}
	for id, spec := range want {
		if r.device(id) == nil {
			r.add(ctx, spec)
		}
	}
	wg.Wait()
	r.mu.Lock()
	r.declared = problems
	r.snapshots++
	r.mu.Unlock()
	r.tell()
}

// choose returns the devices of a snapshot that can be served, and all its problems.
func (r *run) choose(s snapshot) (map[twin.DeviceID]twin.Device, []twin.Problem) {
	want := make(map[twin.DeviceID]twin.Device, len(s.devices))
	problems := s.problems
	for _, d := range s.devices {
		if d.Protocol != "" && !strings.EqualFold(d.Protocol, r.cfg.Driver.Protocol()) {
			continue
		}
		if _, twice := want[d.ID]; twice {
			problems = append(problems, twin.Problem{Object: objectOf(d.ID), Field: "metadata.name", What: "the device is declared twice, the first one is served", Remedy: "remove one of them"})
			continue
		}
		if len(want) == MaxDevices {
			problems = append(problems, twin.Problem{Object: objectOf(d.ID), Field: "spec.nodeName", What: fmt.Sprintf("the node has more than %d devices of one protocol", MaxDevices), Remedy: "spread them over more nodes"})
			continue
		}
		want[d.ID] = d
	}
	return want, problems
}

func (r *run) add(ctx context.Context, spec twin.Device) {
	r.mu.Lock()
	pos, back := r.gone[spec.ID]
	delete(r.gone, spec.ID)
	r.mu.Unlock()
	if !back {
		pos = twin.Position{Epoch: r.epoch}
	}
	d := r.newDevice(context.WithoutCancel(ctx), spec, pos)
	r.mu.Lock()
	r.devices[spec.ID] = d
	r.mu.Unlock()
	d.open(ctx)
}

func (r *run) remove(d *device) {
	r.mu.Lock()
	delete(r.devices, d.id) // commands for it are ignored from here
	r.mu.Unlock()
	d.close()
	r.cfg.Twins.Forget(d.id)
	pos := d.end(drain)
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.gone {
		if len(r.gone) < maxGone {
			break
		}
		delete(r.gone, id)
	}
	r.gone[d.id] = pos
	d.mu.Lock()
	defer d.mu.Unlock()
	r.past.refused += d.board.refused
	for state, n := range d.board.states {
		r.past.states[state] += n
	}
}

// shutdown closes every device and sends what is queued for up to drain.
func (r *run) shutdown() {
	var wg sync.WaitGroup
	for _, d := range r.all() {
		wg.Go(func() {
			d.close()
			d.end(drain)
		})
	}
	wg.Wait()
}

// all returns the devices in service.
func (r *run) all() []*device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*device, 0, len(r.devices))
	for _, d := range r.devices {
		out = append(out, d)
	}
	return out
}

func (r *run) device(id twin.DeviceID) *device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.devices[id]
}

// onCommand takes a message on a CommandTopic; those for devices of others are ignored.
func (r *run) onCommand(topic string, payload []byte) {
	id, ok := twin.DeviceOfTopic(topic)
	if !ok {
		return
	}
	d := r.device(id)
	if d == nil {
		return
	}
	var c twin.Command
	if err := json.Unmarshal(payload, &c); err != nil {
		r.counts.malformed.Add(1)
		if r.once.first(topic) {
			r.cfg.Log.Warn("malformed command refused; logged once per topic", "topic", topic, "error", err)
		}
		return
	}
	d.command(c)
}

// onAck takes a message on an AckTopic.
func (r *run) onAck(topic string, payload []byte) {
	var a twin.Ack
	err := errors.New("too long")
	if len(payload) <= maxAckSize {
		err = json.Unmarshal(payload, &a)
	}
	if err != nil {
		r.counts.malformed.Add(1)
		if r.once.first(topic) {
			r.cfg.Log.Warn("malformed acknowledgement ignored; logged once per topic", "topic", topic, "error", err)
		}
		return
	}
	r.backlog.heard(time.Now())
	for id, pos := range a.Acks {
		if d := r.device(id); d != nil && d.stream.ack(pos) {
			r.cfg.Log.Warn("a consumer has samples that are newer than ours: the epoch counter was lost, it is raised", "device", id, "epoch", d.stream.status().pos.Epoch)
		}
	}
}

// publishResult hands a result to the broker.
func (r *run) publishResult(id twin.DeviceID, result twin.Result) {
	payload, err := json.Marshal(result)
	if err != nil { // cannot be: all its parts have JSON forms
		r.cfg.Log.Error("result dropped", "device", id, "error", err)
		return
	}
	r.results.add(twin.ResultTopic(id), payload)
}

// sameDevice reports whether two declarations differ in desired values at most.
func sameDevice(a, b twin.Device) bool {
	if len(a.Properties) != len(b.Properties) {
		return false
	}
	for i := range a.Properties {
		if !sameProperty(a.Properties[i], b.Properties[i]) {
			return false
		}
	}
	a.Properties, b.Properties = nil, nil
	return reflect.DeepEqual(a, b)
}

func sameProperty(a, b twin.Property) bool {
	a.Desired, b.Desired = nil, nil
	return reflect.DeepEqual(a, b)
}
