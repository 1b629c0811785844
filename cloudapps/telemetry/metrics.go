package telemetry

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	batches, events, refused *prometheus.CounterVec
	produce                  prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) *metrics {
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "twinline", Subsystem: "telemetry", Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		batches: vector("batches_total", "Batches that Kafka has acknowledged, with heartbeats.", "way"),
		events:  vector("events_total", "Events that Kafka has acknowledged.", "way"),
		refused: vector("refused_total", "Requests and events that were refused.", "reason"),
		produce: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "twinline", Subsystem: "telemetry", Name: "produce_seconds",
			Help: "How long Kafka took to acknowledge a chunk of events.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
	}
	registry.MustRegister(m.batches, m.events, m.refused, m.produce)
	return m
}
