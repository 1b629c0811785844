package modbus

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/modbus"
)

var _ prometheus.Collector = (*Driver)(nil)

// collector exports the lines' numbers as twinline_modbus_line_….
func (d *Driver) collector() *link.Collector[*modbus.Counters] {
	return link.NewCollector("twinline_modbus_line_", []link.Metric[*modbus.Counters]{
		link.Count("requests_total", "Requests sent.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Requests }),
		link.Count("silent_total", "Requests without an answer in time.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Silent }),
		link.Count("late_total", "Answers to earlier requests, discarded.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Late }),
		link.Count("foreign_total", "Frames that answer nothing that was asked, discarded.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Foreign }),
		link.Count("damaged_total", "Frames with a wrong checksum or header.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Damaged }),
		link.Count("exceptions_total", "Answers that are exceptions.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Exceptions }),
		link.Count("fences_total", "Requests sent to tell old answers from new ones.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Fences }),
		link.Count("connects_total", "Connections made and ports opened.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Connects }),
		link.Count("sent_bytes_total", "Bytes sent.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Sent }),
		link.Count("received_bytes_total", "Bytes received.", func(c *modbus.Counters) *atomic.Uint64 { return &c.Received }),
	}, func(yield func(string, *link.Stats, *modbus.Counters)) {
		d.lines.Each(func(name string, stats link.Stats, transport modbus.Transport, made bool) {
			counters := &modbus.Counters{} // not used yet
			if made {
				counters = transport.Counters()
			}
			yield(name, &stats, counters)
		})
	})
}

// Describe implements prometheus.Collector.
func (d *Driver) Describe(out chan<- *prometheus.Desc) { d.collector().Describe(out) }

// Collect implements prometheus.Collector: a set of numbers for each line, by its URL without settings.
func (d *Driver) Collect(out chan<- prometheus.Metric) { d.collector().Collect(out) }
