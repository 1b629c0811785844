// Package devicemgmt is where all twins are seen and set: it joins the Device,
// DeviceModel and DeviceStatus objects of KubeEdge into one view per device, and
// offers it as HTTP API, events, web page and Kafka topic.
package devicemgmt

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/twinline/twinline/internal/service"
)

// Config says how long silence and writes may last. Zero fields get the defaults.
type Config struct {
	// Silence is how often mappers report a twin again though nothing changed,
	// with room for one lost report. A property unheard for longer is stale.
	Silence time.Duration
	// StateSilence is the same of the state of a device. One unheard for longer is stale.
	StateSilence time.Duration
	// WriteTime is how long a desired value may take to be seen on the device, on
	// top of the property's own collect and report cycles, until it is overdue.
	WriteTime time.Duration
}

// Defaults of Config.
const (
	DefaultSilence      = 13 * time.Minute // two re-announcements of internal/edgecore's Reporter, with their jitter
	DefaultStateSilence = 3 * time.Minute  // three of its state cycles
	DefaultWriteTime    = 30 * time.Second
)

// Deps is what DeviceMgmt works with. Publisher may be nil: then no topic is written.
type Deps struct {
	Cluster   Cluster
	Text      TwinText // zero: that of internal/edgecore
	Auth      Authenticator
	Publisher Publisher
	Log       *slog.Logger
	Registry  prometheus.Registerer
}

// DeviceMgmt is the service. Its stop takes no longer than Cluster.Watch and
// Publisher.Publish need to notice that their context has ended.
type DeviceMgmt struct {
	*service.Runner
	deps      Deps
	patience  patience
	current   atomic.Pointer[run]
	streams   chan struct{} // one slot per stream of events
	published publishState
	metrics   *metrics
}

// run is what one Start made.
type run struct {
	*inventory
	ctx   context.Context // ends with the run, and with it the streams
	epoch string          // names the inventory in event ids
}

// ageEvery is how often views are looked through for those that time has
// changed. A state is late by at most this.
const ageEvery = time.Second

// New returns the service; mount its routes with Routes.
func New(c Config, deps Deps) *DeviceMgmt {
	if c.Silence == 0 {
		c.Silence = DefaultSilence
	}
	if c.StateSilence == 0 {
		c.StateSilence = DefaultStateSilence
	}
	if c.WriteTime == 0 {
		c.WriteTime = DefaultWriteTime
	}
	if deps.Text.Decode == nil {
		deps.Text = EdgeCoreText()
	}
	m := &DeviceMgmt{deps: deps, patience: patience{report: c.Silence, state: c.StateSilence, write: c.WriteTime}, streams: make(chan struct{}, maxStreams)}
	m.metrics = newMetrics(deps.Registry, m)
	m.Runner = service.New("device management", m.body)
	return m
}

func (m *DeviceMgmt) body(ctx context.Context, ready func()) error {
	group, ctx := errgroup.WithContext(ctx)
	r := &run{inventory: newInventory(m.deps.Text, m.patience), ctx: ctx, epoch: newEpoch()}
	m.published.set(nil)
	m.current.Store(r)
	defer m.current.CompareAndSwap(r, nil)
	group.Go(func() error {
		err := m.deps.Cluster.Watch(ctx, r.apply, r.sync)
		if err == nil && ctx.Err() == nil {
			err = errors.New("the watch of the cluster ended")
		}
		return err
	})
	group.Go(func() error {
		tick := time.NewTicker(ageEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.age()
			case <-ctx.Done():
				return nil
			}
		}
	})
	if m.deps.Publisher != nil {
		group.Go(func() error { m.publish(ctx, r.feed); return nil })
	}
	ready()
	return group.Wait()
}

// Mux is what routes are added to; app.API and http.ServeMux are.
type Mux interface {
	Handle(pattern string, h http.Handler)
}

// Routes adds the API and the web page to mux.
func (m *DeviceMgmt) Routes(mux Mux) {
	guard := http.NewCrossOriginProtection()
	add := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, guard.Handler(plainHeaders(h)))
	}
	add("GET /api/v1/devices", m.listDevices)
	add("GET /api/v1/devices/{namespace}/{name}", m.getDevice)
	add("PATCH /api/v1/devices/{namespace}/{name}", m.patchDevice)
	add("GET /api/v1/events", m.streamEvents)
	addPage(mux)
}

// CheckCluster says why twins cannot be shown now, or nil; for readiness.
func (m *DeviceMgmt) CheckCluster() error {
	if err := m.deps.Cluster.Ready(); err != nil {
		return err
	}
	if r := m.current.Load(); r == nil || !r.isSynced() {
		return errors.New("the devices are still being read")
	}
	return nil
}

// CheckPublisher says why twins are not published now, or nil; for readiness.
func (m *DeviceMgmt) CheckPublisher() error { return m.published.get() }
