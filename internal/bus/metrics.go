package bus

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts for Stats and for Prometheus.
type metrics struct {
	connects, published, republished, received, unmatched atomic.Uint64

	mu         sync.Mutex
	droppedBy  map[string]uint64
	droppedVec *prometheus.CounterVec
}

// newMetrics registers the counts of c; reg may be nil.
func newMetrics(c *Client, reg prometheus.Registerer) *metrics {
	m := &metrics{
		droppedBy: map[string]uint64{},
		droppedVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twinline_bus_dropped_total",
			Help: "Messages dropped because the handler of the filter was too slow.",
		}, []string{"filter"}),
	}
	if reg == nil {
		return m
	}
	count := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "twinline_bus_" + name, Help: help},
			func() float64 { return float64(n.Load()) })
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "twinline_bus_" + name, Help: help}, read)
	}
	reg.MustRegister(
		count("connects_total", "Connections made to the broker.", &m.connects),
		count("published_total", "Messages that the broker has confirmed.", &m.published),
		count("republished_total", "Messages sent again because a connection broke.", &m.republished),
		count("received_total", "Messages received from the broker.", &m.received),
		count("unmatched_total", "Messages received for no subscription.", &m.unmatched),
		gauge("connected", "1 while the broker is connected and all subscriptions are made.", func() float64 {
			if c.Connected() {
				return 1
			}
			return 0
		}),
		gauge("in_flight", "Messages published and not yet confirmed.", func() float64 { return float64(len(c.window)) }),
		m.droppedVec,
	)
	return m
}

func (m *metrics) dropped(filter string, n int) {
	m.mu.Lock()
	m.droppedBy[filter] += uint64(n)
	m.mu.Unlock()
	m.droppedVec.WithLabelValues(filter).Add(float64(n))
}

func (m *metrics) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		Connects:    m.connects.Load(),
		Published:   m.published.Load(),
		Republished: m.republished.Load(),
		Received:    m.received.Load(),
		Unmatched:   m.unmatched.Load(),
		Dropped:     maps.Clone(m.droppedBy),
	}
}
