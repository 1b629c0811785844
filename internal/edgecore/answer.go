package edgecore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// answered calls f with the device of topic if it waits for an answer, and
// plans its next message.
func (r *Reporter) answered(topic string, f func(d *device, now time.Time)) {
	id, ok := DeviceOfTopic(topic)
	if !ok {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.devices[id]
	if !ok {
		return
	}
	f(d, now)
	r.plan(d, now)
	r.poke() // the loop may sleep for longer than d now needs
}

// twinResult takes EdgeCore's answer to a twin/update of anyone.
func (r *Reporter) twinResult(topic string, payload []byte) {
	result, err := DecodeResult(payload)
	if err != nil {
		r.oddMessage("twin result", err)
		return
	}
	if !strings.HasPrefix(result.EventID, r.prefix) {
		return // to another reporter
	}
	r.answered(topic, func(d *device, now time.Time) {
		if d.flight == nil || d.flight.eventID != result.EventID {
			if result.EventID != d.lastID || d.failures > 0 {
				// An answer that was given up. EdgeCore may have dealt with the messages since
				// in any order.
				r.metrics.results.WithLabelValues("late").Inc()
				d.announce(1)
			}
			return
		}
		r.heard(now)
		r.settle(d, now, result)
	})
}

// settle ends the flight of d by result.
func (r *Reporter) settle(d *device, now time.Time, result Result) {
	name, label := d.id.String(), "ok"
	if result.Code != 0 {
		label = strconv.Itoa(result.Code)
	}
	r.metrics.results.WithLabelValues(label).Inc()
	switch result.Code {
	case 0:
		r.found(d)
		d.accepted(now, time.Time{})
	case CodeNotFound:
		if !d.absent {
			r.metrics.absent.WithLabelValues(name).Set(1)
			r.log.Warn("EdgeCore does not know the device; its twin cannot be reported until its membership is mended", "device", name)
		}
		d.missing(now)
	case CodeBadRequest:
		if len(d.flight.texts) == 1 {
			r.metrics.refused.Inc()
		}
		if p := d.rejected(now, result.Reason); p != nil {
			r.log.Warn("EdgeCore refuses a property; it is left out", "device", name, "property", p.name, "reason", result.Reason)
		}
	default:
		d.failed(now)
	}
}

// found notes that EdgeCore knows d.
func (r *Reporter) found(d *device) {
	if d.absent {
		r.metrics.absent.DeleteLabelValues(d.id.String())
		r.log.Info("EdgeCore knows the device now", "device", d.id.String())
	}
}

// heard notes that EdgeCore answers. If it was silent, everything that waits
// because of that need not.
func (r *Reporter) heard(now time.Time) {
	if !r.silent {
		return
	}
	r.silent = false
	for _, d := range r.devices {
		if d.failures > 0 && !d.absent {
			d.hurry(now)
			r.plan(d, now)
		}
	}
}

// stateResult takes EdgeCore's answer to a state/update. It has an event id of
// its own, so the state itself tells whether it is ours.
func (r *Reporter) stateResult(topic string, payload []byte) {
	state, err := DecodeStateResult(payload)
	if err != nil {
		r.oddMessage("state result", err)
		return
	}
	r.answered(topic, func(d *device, now time.Time) {
		if d.flight == nil || d.flight.state == "" || d.flight.state != state {
			return
		}
		r.heard(now)
		r.metrics.results.WithLabelValues("ok").Inc()
		r.found(d)
		d.accepted(now, now.Add(r.stateCycle(d)))
	})
}

// membership takes EdgeCore's news about the node's devices: one that is added
// has no twin yet.
func (r *Reporter) membership(_ string, payload []byte) {
	m, err := DecodeMembership(payload)
	if err != nil {
		r.oddMessage("membership", err)
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range m.Added {
		if d, ok := r.devices[id]; ok {
			d.announce(firstRepeats)
			d.hurry(now)
			r.plan(d, now)
		}
	}
	r.poke()
}

// noDeviceResult takes EdgeCore's complaint of a message that it cannot read,
// of anyone. If it was ours, its answer does not come.
func (r *Reporter) noDeviceResult(_ string, payload []byte) {
	result, err := DecodeResult(payload)
	if err != nil {
		r.oddMessage("twin result", err)
		return
	}
	r.odd("EdgeCore cannot read a twin/update; it does not say whose", "reason", result.Reason)
}

// linkState takes the retained state of the cloud link. A link that is up since
// another moment than was told last has been down in between.
func (r *Reporter) linkState(_ string, payload []byte) {
	var state twin.LinkState
	err := json.Unmarshal(payload, &state)
	if err == nil && state.Node != r.cfg.Node {
		err = fmt.Errorf("it is of node %.80q", state.Node)
	}
	if err != nil {
		r.odd("link state cannot be read", "cause", err)
		return
	}
	r.mu.Lock()
	known := r.link
	r.link = state
	r.mu.Unlock()
	if state.Up && !known.Since.IsZero() && !state.Since.Equal(known.Since) {
		r.LinkUp()
	}
}

func (r *Reporter) oddMessage(what string, err error) {
	r.odd("message of EdgeCore cannot be read: "+what, "cause", err)
}

// odd counts, and logs the first of its kind.
func (r *Reporter) odd(text string, args ...any) {
	r.metrics.odd.Inc()
	r.mu.Lock()
	said := r.oddSaid[text]
	r.oddSaid[text] = true
	r.mu.Unlock()
	if !said {
		r.log.Warn(text, args...)
	}
}

var _ interface {
	Report(*twin.Device, []twin.Reading)
	State(*twin.Device, twin.DeviceState)
	Forget(twin.DeviceID)
} = (*Reporter)(nil)
