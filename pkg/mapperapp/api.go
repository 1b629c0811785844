package mapperapp

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// serveAPI adds what an operator asks a mapper.
//
//	GET /api/v1/devices   every device: state, last poll, readings, writes, problems
//	GET /api/v1/problems  every mistake in a declaration, with its remedy
func serveAPI(api *app.API, m *mapper.Mapper) {
	api.Handle("GET /api/v1/devices", answer(func() any {
		return map[string]any{"devices": orEmpty(m.Devices())}
	}))
	api.Handle("GET /api/v1/problems", answer(func() any {
		return map[string]any{"problems": orEmpty(m.Problems())}
	}))
}

// orEmpty makes no elements [] and not null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func answer(what func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(what()) // the client may be gone
	})
}

// collector gives a Mapper's numbers to Prometheus.
type collector struct{ m *mapper.Mapper }

// Describe implements prometheus.Collector; the descriptions are those of Collect.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.m.Stats()
	for _, n := range []struct {
		name, help string
		value      uint64
	}{
		{"polls_total", "Samples taken on schedule.", s.Polls},
		{"poll_errors_total", "Reads that got no answer at all.", s.PollErrors},
		{"late_polls_total", "Polls left out since the one before took too long.", s.LatePolls},
		{"driver_faults_total", "Breaches of the driver's contract.", s.DriverFaults},
		{"driver_panics_total", "Panics of the driver.", s.Panics},
		{"samples_published_total", "Samples that the broker took, with those sent again.", s.Published},
		{"samples_resent_total", "Samples sent again, since nobody acknowledged them.", s.Resent},
		{"samples_dropped_total", "Samples forced out before anyone confirmed them.", s.Dropped},
		{"commands_refused_total", "Commands that the declaration of the device refuses.", s.CommandsRefused},
		{"malformed_messages_total", "Commands and acknowledgements that could not be read.", s.Malformed},
		{"results_dropped_total", "Answers to commands forced out while the broker was away.", s.ResultsDropped},
		{"store_errors_total", "Errors of the state on disk.", s.StoreErrors},
	} {
		send(ch, n.name, n.help, prometheus.CounterValue, float64(n.value), "")
	}
	for class, n := range map[string]uint64{"good": s.Good, "uncertain": s.Uncertain, "bad": s.Bad} {
		send(ch, "readings_total", "Readings by quality.", prometheus.CounterValue, float64(n), "quality", class)
	}
	for _, state := range []twin.WriteState{twin.Applied, twin.Rejected, twin.TimedOut, twin.Superseded, twin.Released} {
		send(ch, "writes_total", "Answers to commands and desired values by state.", prometheus.CounterValue, float64(s.Writes[state]), "state", string(state))
	}
	send(ch, "writes_pending", "Writes that wait for their device.", prometheus.GaugeValue, float64(s.Writes[twin.Pending]), "")
	send(ch, "problems", "Mistakes in declarations; see /api/v1/problems.", prometheus.GaugeValue, float64(s.Problems), "")
	send(ch, "samples_unconfirmed", "Samples that nobody has confirmed yet.", prometheus.GaugeValue, float64(s.Unconfirmed), "")
	send(ch, "samples_unconfirmed_bytes", "Bytes of these.", prometheus.GaugeValue, float64(s.UnconfirmedBytes), "")
	for _, state := range []twin.DeviceState{twin.Online, twin.Offline, twin.Unhealthy, ""} {
		name := string(state)
		if name == "" {
			name = "unknown"
		}
		send(ch, "devices", "Devices by state.", prometheus.GaugeValue, float64(s.Devices[state]), "state", name)
	}
	c.collectLosses(ch)
}

// collectLosses names the devices that have lost samples; the others would be many and all zero.
func (c *collector) collectLosses(ch chan<- prometheus.Metric) {
	for _, d := range c.m.Devices() {
		if d.Dropped > 0 {
			send(ch, "device_samples_dropped_total", "Samples of a device forced out before anyone confirmed them.", prometheus.CounterValue, float64(d.Dropped), "device", d.ID.String())
		}
	}
}

// send sends one metric, with one label or, where label is empty, none.
func send(ch chan<- prometheus.Metric, name, help string, kind prometheus.ValueType, value float64, label string, values ...string) {
	var labels []string
	if label != "" {
		labels = []string{label}
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("twinline_mapper_"+name, help, labels, nil), kind, value, values...)
}
