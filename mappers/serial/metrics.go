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
	count := func(name, help string, of func(c *serial.Counters) *atomic.Uint64) link.Metric[*serial.Counters] {
		return link.Metric[*serial.Counters]{Name: name, Help: help, Kind: prometheus.CounterValue, Of: func(_ *link.Stats, c *serial.Counters) float64 { return float64(of(c).Load()) }}
	}
	return link.NewCollector("twinline_serial_line_", []link.Metric[*serial.Counters]{
		count("requests_total", "Requests sent.", func(c *serial.Counters) *atomic.Uint64 { return &c.Requests }),
		count("silent_total", "Requests without an answer in time.", func(c *serial.Counters) *atomic.Uint64 { return &c.Silent }),
		count("refused_total", "Answers that say that there is no value.", func(c *serial.Counters) *atomic.Uint64 { return &c.Refused }),
		count("late_total", "Answers to earlier requests, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Late }),
		count("frames_total", "Whole frames of the devices on the line.", func(c *serial.Counters) *atomic.Uint64 { return &c.Frames }),
		count("foreign_total", "Whole frames that answer nothing that was asked, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Foreign }),
		count("unread_total", "Whole frames that the profile cannot read, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Unread }),
		count("damaged_total", "Frames whose check is wrong, discarded.", func(c *serial.Counters) *atomic.Uint64 { return &c.Damaged }),
		count("skipped_bytes_total", "Bytes that belong to no frame.", func(c *serial.Counters) *atomic.Uint64 { return &c.Skipped }),
		count("connects_total", "Connections made and ports opened.", func(c *serial.Counters) *atomic.Uint64 { return &c.Connects }),
		count("sent_bytes_total", "Bytes sent.", func(c *serial.Counters) *atomic.Uint64 { return &c.Sent }),
		count("received_bytes_total", "Bytes received.", func(c *serial.Counters) *atomic.Uint64 { return &c.Received }),
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
