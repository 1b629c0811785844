package mapper

import (
	"iter"
	"slices"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// found passes on what one read of the device found at a time. err is why the
// device did not answer; the readings are bad then. Calls do not overlap.
func (s *session) found(at time.Time, readings []twin.Reading, err error) {
	d := s.d
	c := &d.run.counts
	if err != nil {
		c.pollErrors.Add(1)
	}
	for i := range readings {
		switch q := readings[i].Quality; {
		case q.IsGood():
			c.good.Add(1)
		case q.IsBad():
			c.bad.Add(1)
		default:
			c.uncertain.Add(1)
		}
	}
	for when, of := range byTime(at, readings) {
		if !d.stream.add(when, of) && d.run.once.first(d.id.String()+"oversize") {
			d.run.cfg.Log.Error("a sample is too large and dropped; logged once", "device", d.id, "bound", twin.MaxSampleSize)
		}
	}
	spec := d.spec.Load()
	if due := s.toCloud(readings); len(due) > 0 {
		d.run.cfg.Twins.Report(spec, due)
	}
	s.judge(at, readings, err)
}

// byTime parts readings by their time, the earliest first; those without one are of the time at.
func byTime(at time.Time, readings []twin.Reading) iter.Seq2[time.Time, []twin.Reading] {
	return func(yield func(time.Time, []twin.Reading) bool) {
		if !slices.ContainsFunc(readings, func(r twin.Reading) bool { return !r.Time.IsZero() }) {
			if len(readings) > 0 {
				yield(at, readings)
			}
			return
		}
		var times []time.Time // few: one for each frame that was read
		for i := range readings {
			if when := timeOf(&readings[i], at); !slices.ContainsFunc(times, when.Equal) {
				times = append(times, when)
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		for _, when := range times {
			var of []twin.Reading
			for i := range readings {
				if timeOf(&readings[i], at).Equal(when) {
					of = append(of, readings[i])
				}
			}
			if !yield(when, of) {
				return
			}
		}
	}
}

func timeOf(r *twin.Reading, at time.Time) time.Time {
	if r.Time.IsZero() {
		return at
	}
	return stamp(r.Time)
}

// toCloud returns the readings of properties that are reported.
func (s *session) toCloud(readings []twin.Reading) (out []twin.Reading) {
	if !s.reported {
		return nil
	}
	for i := range readings {
		if p := s.props[readings[i].Property]; p != nil && p.ReportToCloud {
			out = append(out, readings[i])
		}
	}
	return out
}

// judge derives the device's state and reports it where it changed.
func (s *session) judge(at time.Time, readings []twin.Reading, err error) {
	d := s.d
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	d.mu.Lock()
	usable := false
	for i := range readings {
		d.last[readings[i].Property] = readings[i]
		usable = usable || !readings[i].Quality.IsBad()
	}
	for _, r := range d.last {
		if usable {
			break
		}
		usable = !r.Quality.IsBad()
	}
	d.board.observe(readings)
	state := twin.Online
	d.polled, d.failure = at, failure
	switch {
	case err != nil:
		state = twin.Offline
	case !usable:
		state = twin.Unhealthy
	}
	before := d.state
	d.state = state
	if before != state && state != twin.Offline {
		d.board.hurry()
		d.nudge()
	}
	d.mu.Unlock()
	if before == state {
		return
	}
	d.run.cfg.Twins.State(d.spec.Load(), state)
	switch {
	case state == twin.Online && before != "":
		d.run.cfg.Log.Info("device answers again", "device", d.id)
	case state == twin.Online:
		d.run.cfg.Log.Info("device answers", "device", d.id)
	default:
		d.run.cfg.Log.Warn("device is "+string(state), "device", d.id, "error", failure)
	}
}

// remind reports the state again though it did not change.
func (d *device) remind() {
	d.mu.Lock()
	state := d.state
	d.mu.Unlock()
	if state != "" {
		d.run.cfg.Twins.State(d.spec.Load(), state)
	}
}
