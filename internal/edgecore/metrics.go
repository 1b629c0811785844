package edgecore

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a Reporter.
type metrics struct {
	messages *prometheus.CounterVec // by kind
	results  *prometheus.CounterVec // by result
	absent   *prometheus.GaugeVec   // by device
	unfit    prometheus.Counter
	refused  prometheus.Counter
	odd      prometheus.Counter
}

// newMetrics registers the metrics of r; reg may be nil.
func newMetrics(r *Reporter, reg prometheus.Registerer) *metrics {
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twinline_twin_messages_total", Help: "Messages sent to EdgeCore, by kind: twin or state.",
		}, []string{"kind"}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twinline_twin_results_total", Help: "Answers of EdgeCore: ok, its error code, timeout (none came) or late.",
		}, []string{"result"}),
		absent: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twinline_twin_unknown_device", Help: "1 for a device that EdgeCore says it does not know (404).",
		}, []string{"device"}),
		unfit: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twinline_twin_unfit_values_total", Help: "Values that do not fit a twin and were not reported.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twinline_twin_refused_properties_total", Help: "Times that EdgeCore refused a property that stood alone in its message.",
		}),
		odd: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twinline_twin_odd_messages_total", Help: "Messages of EdgeCore, and states of the link, that could not be read, or that say EdgeCore could not read one.",
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	reg.MustRegister(m.messages, m.results, m.absent, m.unfit, m.refused, m.odd,
		gauge("twinline_twin_devices", "Devices whose twins are reported.", func() float64 { return float64(r.Stats().Devices) }),
		gauge("twinline_twin_waiting_devices", "Devices whose next message is due or has no answer yet.",
			func() float64 { return float64(r.Stats().Waiting) }),
	)
	return m
}
