package mapper

import (
	"context"
	"fmt"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

const (
	// The pause between two reads of a value just written, doubling from the
	// first to the second.
	minReadBackPause = 100 * time.Millisecond
	maxReadBackPause = time.Second
	// saveAgain is when a record that could not be stored is stored again.
	saveAgain = 30 * time.Second
)

// writer makes the writes of the board, one after the other, until ctx ends.
func (s *session) writer(ctx context.Context) {
	d := s.d
	timer := time.NewTimer(0)
	defer timer.Stop()
	var saveAt time.Time
	for {
		d.mu.Lock()
		now := time.Now()
		t, ok, again := d.board.next(now)
		d.emit()
		record, changed := d.board.dealt()
		d.mu.Unlock()
		// What is about to be overridden leaves the record before the write, and
		// what was applied enters it after: a crash between repeats a write, and loses none.
		if changed && !now.Before(saveAt) {
			if changed = !d.save(record); changed {
				saveAt = now.Add(saveAgain)
			}
		}
		if ok {
			s.attempt(ctx, t)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if changed {
			again = earlier(again, saveAt)
		}
		var due <-chan time.Time
		if !again.IsZero() {
			timer.Reset(time.Until(again))
			due = timer.C
		}
		select {
		case <-d.write:
		case <-due:
		case <-ctx.Done():
			return
		}
	}
}

// save stores the record of what was dealt with.
func (d *device) save(record map[string]string) bool {
	if store := d.run.cfg.Store; store != nil {
		if err := store.SetLastDesired(d.id, record); err != nil {
			d.run.counts.storeErrors.Add(1)
			if d.run.once.first(d.id.String() + err.Error()) {
				d.run.cfg.Log.Error("the record of desired values cannot be stored, a restart may write a value again; logged once", "device", d.id, "error", err)
			}
			return false
		}
	}
	d.mu.Lock()
	d.board.record = record
	d.mu.Unlock()
	return true
}

// attempt makes one try of t and tells the board how it ended.
func (s *session) attempt(ctx context.Context, t target) {
	how, shown, reason := s.try(ctx, t)
	d := s.d
	d.mu.Lock()
	d.board.ended(t, how, shown, reason, time.Now())
	d.emit()
	d.mu.Unlock()
	switch how {
	case applied, cut:
		d.run.cfg.Log.Debug("write", "device", d.id, "property", t.property, "value", t.value, "applied", how == applied)
	default:
		d.run.cfg.Log.Warn("write not applied", "device", d.id, "property", t.property, "value", t.value, "error", reason, "final", how == refused)
	}
}

func (s *session) try(ctx context.Context, t target) (how outcome, shown twin.Value, reason string) {
	p := s.props[t.property]
	if p == nil {
		return cut, twin.Value{}, "the property is not declared any more"
	}
	call, cancel := context.WithTimeout(ctx, s.d.run.cfg.CallTimeout)
	shown, err := s.d.run.guard.write(call, s.conn, t.property, t.value)
	cancel()
	switch {
	case err != nil && Rejected(err):
		return refused, twin.Value{}, err.Error()
	case ctx.Err() != nil:
		return cut, twin.Value{}, "the device was closed during the write"
	case err != nil:
		return failed, twin.Value{}, err.Error()
	}
	v, ok := typed(p.Type, shown)
	if !ok {
		s.d.blame([]string{fmt.Sprintf("Write of property %s returned %q, which is no value of type %s", p.Name, shown.String(), p.Type)})
		v = t.value
	}
	return s.readBack(ctx, t, p, v)
}

// readBack reads the property until it shows want, something else takes t's
// place, or the time is over. It reads once at least.
func (s *session) readBack(ctx context.Context, t target, p *twin.Property, want twin.Value) (how outcome, shown twin.Value, reason string) {
	deadline := time.Now().Add(s.d.run.cfg.WriteTimeout)
	for pause := minReadBackPause; ; pause = min(2*pause, maxReadBackPause) {
		readings, ok := s.read(ctx, []*twin.Property{p})
		if !ok {
			return cut, twin.Value{}, "the device was closed during the write"
		}
		r := twin.Reading{Property: p.Name, Quality: NothingNew}
		if len(readings) > 0 {
			r = readings[0]
		}
		switch late := time.Now().Add(pause).After(deadline); {
		case !r.Quality.IsBad() && r.Value.Equal(want):
			return applied, want, ""
		case late && r.Quality == NothingNew:
			return unseen, twin.Value{}, fmt.Sprintf("the device took %s and said nothing of it for %s", want, s.d.run.cfg.WriteTimeout)
		case late && r.Quality.IsBad():
			return failed, twin.Value{}, "written, but it cannot be read back: " + string(r.Quality)
		case late:
			return unseen, twin.Value{}, fmt.Sprintf("the device took %s and still shows %s after %s", want, r.Value, s.d.run.cfg.WriteTimeout)
		}
		if !s.pause(ctx, t, pause) {
			return cut, twin.Value{}, "something else took its place"
		}
	}
}

// pause waits, and reports false when ctx ended or t does not hold any more.
func (s *session) pause(ctx context.Context, t target, length time.Duration) bool {
	over := time.NewTimer(length)
	defer over.Stop()
	for {
		s.d.mu.Lock()
		holds := s.d.board.holdsStill(t)
		s.d.mu.Unlock()
		if !holds {
			return false
		}
		select {
		case <-over.C:
			return true
		case <-s.d.write:
		case <-ctx.Done():
			return false
		}
	}
}
