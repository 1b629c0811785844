package reactor

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/rule"
)

// metrics are the counters of one reactor.
type metrics struct {
	evaluations, resends, unanswered, dropped, malformed, saveErrors prometheus.Counter

	turns, commands, results *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, r *Reactor) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "twinline_reactor_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "twinline_reactor_" + name, Help: help}, []string{label})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels prometheus.Labels, value func(*engine) int) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "twinline_reactor_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(r.count(value)) }))
	}
	for _, phase := range []rule.Phase{rule.Idle, rule.Waiting, rule.Holding} {
		gauge("rules", "Rules by phase.", prometheus.Labels{"phase": string(phase)}, func(e *engine) int {
			return e.countRules(func(s rule.Status) bool { return s.Phase == phase })
		})
	}
	gauge("undecided", "Rules that cannot be decided now.", nil, func(e *engine) int {
		return e.countRules(func(s rule.Status) bool { return s.Undecided != "" })
	})
	gauge("problems", "Mistakes in the rules.", nil, func(e *engine) int { return len(e.problems) })
	gauge("claims", "Properties claimed, or being released.", nil, func(e *engine) int { return len(e.claims) })
	return &metrics{
		evaluations: counter("evaluations_total", "Decisions of rules."),
		resends:     counter("resends_total", "Commands sent again because no result came."),
		unanswered:  counter("unanswered_total", "Commands that no mapper answered."),
		dropped:     counter("dropped_total", "Messages that were not looked at because too many came."),
		malformed:   counter("malformed_total", "Messages that could not be read."),
		saveErrors:  counter("save_errors_total", "Failures to save the state."),
		turns:       vec("turns_total", "Rules that began to hold or ended.", "phase"),
		commands:    vec("commands_total", "Commands published.", "kind"),
		results:     vec("results_total", "Results of commands.", "state"),
	}
}

func (e *engine) countRules(is func(rule.Status) bool) int {
	n := 0
	for _, m := range e.machines {
		if is(m.Status()) {
			n++
		}
	}
	return n
}
