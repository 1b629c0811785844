package uplink

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

// counts are the counters of an Uplink over all its runs.
type counts struct {
	stored, duplicate, stale, refused, overflow atomic.Uint64 // samples from the bus
	batches, sent, bytes                        atomic.Uint64 // acknowledged by the cloud
	failures, refusals, rejected                atomic.Uint64
	warned                                      atomic.Uint64 // losses that were logged
}

// Status is what GET /api/v1/spool answers.
type Status struct {
	Records int64             `json:"records"`           // samples that wait
	Bytes   int64             `json:"bytes"`             // on disk
	Oldest  *time.Time        `json:"oldest,omitempty"`  // when the oldest that waits was taken
	Age     float64           `json:"age_seconds"`       // how long ago; zero when none waits
	Stored  uint64            `json:"stored"`            // since the process started, as all below
	Sent    uint64            `json:"sent"`              // acknowledged by the cloud
	Missing uint64            `json:"missing"`           // holes in devices' sequences that were never filled
	Dropped map[string]uint64 `json:"dropped,omitempty"` // forced out by the bound, by device, since the spool was made
	Damaged uint64            `json:"damaged"`           // lost to damage on the disk, since the spool was made

	Rejected uint64          `json:"rejected"` // given up because the cloud will never take them
	Link     *twin.LinkState `json:"link,omitempty"`
	Reason   string          `json:"reason,omitempty"` // why the last batch was not delivered
}

// Status returns the state of now; ok is false while the service does not run.
// It reads a record from disk.
func (u *Uplink) Status() (st Status, ok bool) {
	s := u.session()
	if s == nil {
		return Status{}, false
	}
	now := s.store.Stats()
	st = Status{
		Records: now.Records, Bytes: now.Bytes, Damaged: now.Damaged, Dropped: s.store.Lost(),
		Stored: u.counts.stored.Load(), Sent: u.counts.sent.Load(), Rejected: u.counts.rejected.Load(), Missing: s.tracker.missing(),
	}
	if at, ok := oldest(s.store, now); ok {
		st.Oldest, st.Age = &at, max(0, time.Since(at).Seconds())
	}
	link, reason, known := u.link.get()
	if st.Reason = reason; known {
		st.Link = &link
	}
	return st, true
}

// oldest returns when the oldest sample that waits was taken.
func oldest(store Log, st spool.Stats) (time.Time, bool) {
	if st.Records == 0 {
		return time.Time{}, false
	}
	records, err := store.Read(st.Oldest, 1, 1)
	if err != nil || len(records) == 0 {
		return time.Time{}, false
	}
	var sample twin.Sample
	if sample.UnmarshalJSON(records[0].Data) != nil {
		return time.Time{}, false
	}
	return sample.Time, true
}

// Handler answers GET /api/v1/spool with the Status.
func (u *Uplink) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		st, ok := u.Status()
		if !ok {
			http.Error(w, "not running", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(st) // the client is gone
	})
}

// collector gives the metrics, which are the Status and the counts at the moment of the scrape.
type collector struct{ u *Uplink }

// Describe implements prometheus.Collector: what there is depends on the devices.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	n := &c.u.counts
	counter := func(name, help string, v uint64, labels prometheus.Labels) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("twinline_uplink_"+name, help, nil, labels), prometheus.CounterValue, float64(v))
	}
	gauge := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("twinline_uplink_"+name, help, nil, nil), prometheus.GaugeValue, v)
	}
	for result, v := range map[string]*atomic.Uint64{
		"stored": &n.stored, "duplicate": &n.duplicate, "stale": &n.stale, "refused": &n.refused, "overflow": &n.overflow,
	} {
		counter("samples_total", "Samples from the bus, by what became of them.", v.Load(), prometheus.Labels{"result": result})
	}
	counter("batches_total", "Batches that the cloud acknowledged.", n.batches.Load(), nil)
	counter("sent_samples_total", "Samples that the cloud acknowledged.", n.sent.Load(), nil)
	counter("sent_bytes_total", "Bytes of acknowledged batches, compressed.", n.bytes.Load(), nil)
	counter("failures_total", "Batches without an acknowledgement; they are sent again.", n.failures.Load(), nil)
	counter("refusals_total", "Batches that the cloud refused for their content.", n.refusals.Load(), nil)
	counter("rejected_samples_total", "Samples given up because the cloud will never take them.", n.rejected.Load(), nil)
	st, ok := c.u.Status()
	if !ok {
		return
	}
	gauge("spool_records", "Samples that wait for the cloud.", float64(st.Records))
	gauge("spool_bytes", "Bytes of the spool on disk.", float64(st.Bytes))
	gauge("spool_age_seconds", "Age of the oldest sample that waits.", st.Age)
	counter("missing_samples_total", "Holes in devices' sequences that were never filled.", st.Missing, nil)
	counter("damaged_samples_total", "Samples lost to damage on the disk.", st.Damaged, nil)
	for device, v := range st.Dropped {
		counter("dropped_samples_total", "Samples forced out by the byte bound, by device.", v, prometheus.Labels{"device": device})
	}
	if st.Link != nil {
		up := 0.0
		if st.Link.Up {
			up = 1
		}
		gauge("link_up", "Whether the cloud acknowledges: 1 or 0.", up)
	}
}
