package storage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/history"
)

type metrics struct {
	rows, events, batches, duplicates prometheus.Counter
	missed, filled, skipped           prometheus.Counter
	letters, retries                  *prometheus.CounterVec
	lag                               *prometheus.GaugeVec
	commit                            prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "twinline", Subsystem: "storage", Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "twinline", Subsystem: "storage", Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		rows:       counter("rows_total", "Readings stored."),
		events:     counter("events_total", "Events stored."),
		batches:    counter("batches_total", "Transactions committed."),
		duplicates: counter("duplicates_total", "Events left out because they were stored before."),
		missed:     counter("missed_total", "Sequence numbers of devices that were passed over; those that came later are in filled_total."),
		filled:     counter("filled_total", "Sequence numbers of devices that came after they had been passed over."),
		skipped:    counter("offsets_skipped_total", "Kafka offsets that were not there: by retention before they were stored, or by compaction."),
		letters:    vector("dead_letters_total", "Events given to the dead letter topic.", "reason"),
		retries:    vector("retries_total", "Tries that failed and were repeated.", "what"),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "twinline", Subsystem: "storage", Name: "lag_records",
			Help: "Records in Kafka that are not stored yet, of the partitions of this member, as of its last batch.",
		}, []string{"partition"}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "twinline", Subsystem: "storage", Name: "commit_seconds",
			Help: "Duration of a transaction with its repetitions.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
	}
	registry.MustRegister(m.rows, m.events, m.batches, m.duplicates, m.missed, m.filled, m.skipped, m.letters, m.retries, m.lag, m.commit)
	return m
}

func (m *metrics) stored(out history.Outcome, took time.Duration) {
	m.rows.Add(float64(out.Rows))
	m.events.Add(float64(out.Events))
	m.duplicates.Add(float64(out.Duplicates))
	m.missed.Add(float64(out.Missed))
	m.filled.Add(float64(out.Filled))
	m.batches.Inc()
	m.commit.Observe(took.Seconds())
}
