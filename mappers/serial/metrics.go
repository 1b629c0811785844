package serial

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/serial"
)

var _ prometheus.Collector = (*Driver)(nil)

// collector exports the lines' numbers as twinline_serial_line_….
func (d *Driver) collector() *link.Collector[*serial.Counters] {
	return link.NewCollector("twinline_serial_line_", []link.Metric[*serial.Counters]{
		link.Count("requests_total", "Requests sent.", func(c *serial.Counters) *atomic.Uint64 { return &c.Requests }),
		link.Count("silent_total", "Requests without an answer in time.", func(c *serial.Counters) *atomic.Uint64 { return &c.Silent }),
		link.Count("refused_total", "Answers that say that there is no value.", func(c *serial.Counters) *atomic.Uint64 { return &c.Refused }),
		link.Count("late_total", "Answers to earlier requests, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Late }),
		link.Count("frames_total", "Whole frames of the devices on the line.", func(c *serial.Counters) *atomic.Uint64 { return &c.Frames }),
		link.Count("foreign_total", "Whole frames that answer nothing that was asked, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Foreign }),
		link.Count("unread_total", "Whole frames that the profile cannot read, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Unread }),
		link.Count("damaged_total", "Frames whose check is wrong, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Damaged }),
		link.Count("skipped_bytes_total", "Bytes that belong to no frame.", func(c *serial.Counters) *atomic.Uint64 { return &c.Skipped }),
		link.Count("connects_total", "Connections made and ports opened.", func(c *serial.Counters) *atomic.Uint64 { return &c.Connects }),
		link.Count("sent_bytes_total", "Bytes sent.", func(c *serial.Counters) *atomic.Uint64 { return &c.Sent }),
		link.Count("received_bytes_total", "Bytes received.", func(c *serial.Counters) *atomic.Uint64 { return &c.Received }),
	}, func(yield func(string, *link.Stats, *serial.Counters)) {
		d.lines.Each(func(name string, stats link.Stats, port *serial.Port, made bool) {
			counters := &serial.Counters{} // not used yet
			if made {
				counters = port.Counters()
			}
			yield(name, &stats, counters)
		})
	})
}

// Describe implements prometheus.Collector.
func (d *Driver) Describe(out chan<- *prometheus.Desc) { d.collector().Describe(out) }

// Collect implements prometheus.Collector: a set of numbers for each line, by its URL without settings.
func (d *Driver) Collect(out chan<- prometheus.Metric) { d.collector().Collect(out) }
