package serial

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/serial"
)

// metric is one number of a line.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	of         func(s *link.Stats, c *serial.Counters) float64
}

func metrics() []metric {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []metric{
		{"requests_total", "Requests sent.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Requests.Load()) }},
		{"silent_total", "Requests without an answer in time.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Silent.Load()) }},
		{"refused_total", "Answers that say that there is no value.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Refused.Load()) }},
		{"late_total", "Answers to earlier requests, discarded.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Late.Load()) }},
		{"frames_total", "Whole frames of the devices on the line.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Frames.Load()) }},
		{"foreign_total", "Whole frames that answer nothing that was asked, discarded.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Foreign.Load()) }},
		{"unread_total", "Whole frames that the profile cannot read, discarded.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Unread.Load()) }},
		{"damaged_total", "Frames whose check is wrong, discarded.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Damaged.Load()) }},
		{"skipped_bytes_total", "Bytes that belong to no frame.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Skipped.Load()) }},
		{"connects_total", "Connections made and ports opened.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Connects.Load()) }},
		{"sent_bytes_total", "Bytes sent.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Sent.Load()) }},
		{"received_bytes_total", "Bytes received.", counter, func(_ *link.Stats, c *serial.Counters) float64 { return float64(c.Received.Load()) }},
		{"busy_seconds_total", "Time that requests had the line.", counter, func(s *link.Stats, _ *serial.Counters) float64 { return s.Busy.Seconds() }},
		{"overdue_total", "Requests begun after they were due.", counter, func(s *link.Stats, _ *serial.Counters) float64 { return float64(s.Late) }},
		{"overdue_seconds_total", "By how much, together.", counter, func(s *link.Stats, _ *serial.Counters) float64 { return s.Lateness.Seconds() }},
		{"not_asked_total", "Requests spared because the device did not answer lately.", counter, func(s *link.Stats, _ *serial.Counters) float64 { return float64(s.Suspended) }},
		{"refused_turns_total", "Requests refused because too many waited.", counter, func(s *link.Stats, _ *serial.Counters) float64 { return float64(s.Refused) }},
		{"waiting", "Requests that wait for the line.", gauge, func(s *link.Stats, _ *serial.Counters) float64 { return float64(s.Waiting) }},
		{"devices", "Devices in service on the line.", gauge, func(s *link.Stats, _ *serial.Counters) float64 { return float64(s.Stations) }},
		{"dead_devices", "Devices that do not answer and are asked less often.", gauge, func(s *link.Stats, _ *serial.Counters) float64 { return float64(s.Dead) }},
	}
}

const metricPrefix = "twinline_serial_line_"

var _ prometheus.Collector = (*Driver)(nil)

// Describe implements prometheus.Collector.
func (d *Driver) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics() {
		out <- m.desc()
	}
}

func (m *metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(metricPrefix+m.name, m.help, []string{"line"}, nil)
}

// Collect implements prometheus.Collector: a set of numbers for each line, by its URL without settings.
func (d *Driver) Collect(out chan<- prometheus.Metric) {
	d.lines.Each(func(name string, stats link.Stats, port *serial.Port, made bool) {
		counters := &serial.Counters{} // not used yet
		if made {
			counters = port.Counters()
		}
		for _, m := range metrics() {
			out <- prometheus.MustNewConstMetric(m.desc(), m.kind, m.of(&stats, counters), name)
		}
	})
}
