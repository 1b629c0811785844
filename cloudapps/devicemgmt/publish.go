package devicemgmt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of publishing.
const (
	maxRecord       = 900 << 10        // bytes: Kafka's default is 1 MB, with the batch's own bytes
	publishBatch    = 128              // changes taken from the feed at a time
	publishMinPause = time.Second      // before a failed record is tried again
	publishMaxPause = 30 * time.Second // an outage is noticed to be over within this
)

// publishState is the latest error of publishing, for readiness.
type publishState struct {
	mu  sync.Mutex
	err error
}

func (s *publishState) set(err error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = (s.err == nil) != (err == nil)
	s.err = err
	return first
}

func (s *publishState) get() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// publish writes every change to the topic until ctx ends, the whole set first.
// While the topic cannot be written only the newest view of each device waits.
func (m *DeviceMgmt) publish(ctx context.Context, f *feed) {
	var cursor uint64
	pause := publishMinPause
	for f.wait(ctx, cursor) == nil {
		changes := f.after(cursor, publishBatch)
		var records []Record
		for _, c := range changes {
			if len(c.JSON) > maxRecord {
				m.metrics.oversized.Inc()
				m.deps.Log.Warn("a twin is too big for its topic and is left out", "device", c.ID, "bytes", len(c.JSON), "most", maxRecord)
				continue
			}
			records = append(records, Record{c.ID.String(), c.JSON})
		}
		err := m.deps.Publisher.Publish(ctx, records)
		if ctx.Err() != nil {
			return
		}
		m.publishOutcome(err, len(records))
		if err == nil {
			cursor = changes[len(changes)-1].Seq
			pause = publishMinPause
			continue
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, publishMaxPause)
	}
}

func (m *DeviceMgmt) publishOutcome(err error, records int) {
	if err != nil {
		m.metrics.publishFailures.Add(float64(records))
		err = fmt.Errorf("publish twins: %w", err)
	} else {
		m.metrics.published.Add(float64(records))
	}
	if changed := m.published.set(err); !changed {
		return
	}
	if err != nil {
		m.deps.Log.Warn("twins cannot be published; trying again", "error", err)
	} else {
		m.deps.Log.Info("twins are published again")
	}
}

// jitter returns half to all of d, so that replicas do not retry together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

// sleep waits for d and reports whether ctx is still on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type metrics struct {
	published, publishFailures, oversized, writes, refused, slowStreams prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, m *DeviceMgmt) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "twinline_devicemgmt_" + name, Help: help})
	}
	x := &metrics{
		published:       counter("twins_published_total", "Records written to the topic of twins."),
		publishFailures: counter("twins_publish_failures_total", "Records that could not be written and were tried again."),
		oversized:       counter("twins_oversized_total", "Views that are too big for the topic of twins."),
		writes:          counter("desired_writes_total", "Requests that set desired values."),
		refused:         counter("desired_refused_total", "Requests to set desired values that were refused."),
		slowStreams:     counter("slow_streams_total", "Streams of events ended because their client did not read."),
	}
	if reg == nil {
		return x
	}
	reg.MustRegister(x.published, x.publishFailures, x.oversized, x.writes, x.refused, x.slowStreams,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "twinline_devicemgmt_streams", Help: "Streams of events open now."},
			func() float64 { return float64(len(m.streams)) }),
		stateCollector{m})
	return x
}

// stateCollector counts devices by state when metrics are read.
type stateCollector struct{ m *DeviceMgmt }

func stateDesc() *prometheus.Desc {
	return prometheus.NewDesc("twinline_devicemgmt_devices", "Devices by state.", []string{"state"}, nil)
}

// Describe implements prometheus.Collector.
func (c stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- stateDesc() }

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	counts := map[State]int{Online: 0, Offline: 0, Unhealthy: 0, Stale: 0, Unknown: 0}
	if r := c.m.current.Load(); r != nil {
		r.count(counts)
	}
	for state, n := range counts {
		ch <- prometheus.MustNewConstMetric(stateDesc(), prometheus.GaugeValue, float64(n), string(state))
	}
}
