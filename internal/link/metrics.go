package link

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one number of a line. C is what a driver counts on a line besides.
type Metric[C any] struct {
	Name, Help string
	Kind       prometheus.ValueType
	Of         func(s *Stats, c C) float64
}

// Count is a Metric of a number that a driver counts.
func Count[C any](name, help string, of func(c C) *atomic.Uint64) Metric[C] {
	return Metric[C]{name, help, prometheus.CounterValue, func(_ *Stats, c C) float64 { return float64(of(c).Load()) }}
}

// Collector is a prometheus.Collector of the lines of a driver. Each metric has the label
// line, which is the line's URL without settings.
type Collector[C any] struct {
	prefix  string
	metrics []Metric[C]
	each    func(yield func(line string, s *Stats, c C))
}

// NewCollector exports the metrics of a driver's own, and those that every line has. each goes through the lines.
func NewCollector[C any](prefix string, own []Metric[C], each func(yield func(line string, s *Stats, c C))) *Collector[C] {
	return &Collector[C]{prefix: prefix, metrics: append(own, shared[C]()...), each: each}
}

func shared[C any]() []Metric[C] {
	row := func(name, help string, kind prometheus.ValueType, of func(s *Stats) float64) Metric[C] {
		return Metric[C]{name, help, kind, func(s *Stats, _ C) float64 { return of(s) }}
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []Metric[C]{
		row("busy_seconds_total", "Time that requests had the line.", counter, func(s *Stats) float64 { return s.Busy.Seconds() }),
		row("overdue_total", "Requests begun after they were due.", counter, func(s *Stats) float64 { return float64(s.Late) }),
		row("overdue_seconds_total", "By how much, together.", counter, func(s *Stats) float64 { return s.Lateness.Seconds() }),
		row("not_asked_total", "Requests spared because the device did not answer lately.", counter, func(s *Stats) float64 { return float64(s.Suspended) }),
		row("refused_turns_total", "Requests refused because too many waited.", counter, func(s *Stats) float64 { return float64(s.Refused) }),
		row("waiting", "Requests that wait for the line.", gauge, func(s *Stats) float64 { return float64(s.Waiting) }),
		row("devices", "Devices in service on the line.", gauge, func(s *Stats) float64 { return float64(s.Stations) }),
		row("dead_devices", "Devices that do not answer and are asked less often.", gauge, func(s *Stats) float64 { return float64(s.Dead) }),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector[C]) Describe(out chan<- *prometheus.Desc) {
	for i := range c.metrics {
		out <- c.desc(&c.metrics[i])
	}
}

func (c *Collector[C]) desc(m *Metric[C]) *prometheus.Desc {
	return prometheus.NewDesc(c.prefix+m.Name, m.Help, []string{"line"}, nil)
}

// Collect implements prometheus.Collector.
func (c *Collector[C]) Collect(out chan<- prometheus.Metric) {
	c.each(func(line string, s *Stats, counted C) {
		for i := range c.metrics {
			m := &c.metrics[i]
			out <- prometheus.MustNewConstMetric(c.desc(m), m.Kind, m.Of(s, counted), line)
		}
	})
}
