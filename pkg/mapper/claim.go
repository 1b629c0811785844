package mapper

import (
	"errors"
	"fmt"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// errReadOnly refuses a write to a property that is declared ReadOnly.
var errReadOnly = errors.New("the property is declared ReadOnly")

// command executes a command on the board: a claim, or the release of one. One
// that is in the window is answered again and not executed.
func (b *board) command(c twin.Command, now time.Time) {
	if r, ok := b.window.get(c.Source, c.ID); ok {
		b.out = append(b.out, r)
		return
	}
	s, ok := b.slots[c.Property]
	switch {
	case !ok:
		b.refuse(c, nil, "the device has no such property", now)
	case !s.property.Writable:
		b.refuse(c, s, errReadOnly.Error(), now)
	case c.Value.IsZero():
		b.release(c, s, now)
	default:
		value, err := s.property.Coerce(c.Value)
		if err != nil {
			b.refuse(c, s, err.Error(), now)
			return
		}
		b.claim(c, s, value, now)
	}
}

func (b *board) refuse(c twin.Command, s *slot, reason string, now time.Time) {
	b.refused++
	b.reply(c, s, twin.Rejected, reason, now)
}

// reply answers a command that is no wish.
func (b *board) reply(c twin.Command, s *slot, state twin.WriteState, reason string, now time.Time) {
	r := twin.Result{ID: c.ID, Property: c.Property, Source: c.Source, State: state, Reason: reason, Time: stamp(now)}
	if s != nil {
		r.Value = s.now
	}
	b.emit(r, false)
}

func bySource(source string) func(*wish) bool {
	return func(w *wish) bool { return !w.cloud() && w.source == source }
}

func (b *board) claim(c twin.Command, s *slot, value twin.Value, now time.Time) {
	old := s.find(bySource(c.Source))
	if old == nil && s.claims() >= maxClaims {
		b.refuse(c, s, fmt.Sprintf("%d sources claim the property, more are not allowed", maxClaims), now)
		return
	}
	if old != nil {
		if !old.answered {
			b.answer(s, old, twin.Superseded, "a newer command of the same source took its place", now)
		}
		s.remove(old)
	}
	w := b.wish(s, now)
	w.command, w.source, w.priority, w.value = c.ID, c.Source, c.Priority, value
	if c.TTL > 0 {
		w.expires = now.Add(c.TTL)
	}
	b.answer(s, w, twin.Pending, "", now)
	b.settle(s, now)
	switch {
	case s.holds != w.order:
		b.answer(s, w, twin.Superseded, "waits beneath "+s.holder().describe(), now)
	case old != nil && s.have == old.order && old.value.Equal(value) && !s.now.IsZero() && s.now.Equal(old.shown):
		// A claim renewed: the device shows it already, and is spared the write.
		s.have, w.shown = w.order, old.shown
		b.answer(s, w, twin.Applied, "", now)
	}
}

func (b *board) release(c twin.Command, s *slot, now time.Time) {
	reason := "the source had no claim"
	if w := s.find(bySource(c.Source)); w != nil {
		reason = ""
		if !w.answered {
			b.answer(s, w, twin.Released, "given back", now)
		}
		s.remove(w)
	}
	b.reply(c, s, twin.Released, reason, now)
	b.settle(s, now)
}

// expire ends the claims whose time is over, and returns when the next one ends.
func (b *board) expire(now time.Time) (next time.Time) {
	for _, s := range b.slots {
		for i := 0; i < len(s.wishes); {
			w := s.wishes[i]
			if w.expires.IsZero() || w.expires.After(now) {
				if !w.expires.IsZero() {
					next = earlier(next, w.expires)
				}
				i++
				continue
			}
			if !w.answered {
				b.answer(s, w, twin.TimedOut, "its ttl ended before the device took it"+because(w.last), now)
			}
			s.remove(w)
		}
		b.settle(s, now)
	}
	return next
}

func because(last string) string {
	if last == "" {
		return ""
	}
	return ": " + last
}

// earlier returns the earlier of two times; a zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// target is one write to make.
type target struct {
	property string
	order    uint64
	value    twin.Value
}

// next returns the write to make now and takes it as begun, or when to ask
// again (zero: when something changes).
func (b *board) next(now time.Time) (t target, ok bool, again time.Time) {
	again = b.expire(now)
	var found *slot
	for _, s := range b.slots {
		w := s.holder()
		if w == nil || w.closed || w.order == s.have {
			continue
		}
		if !w.answered && !now.Before(w.answerBy) {
			b.answer(s, w, twin.TimedOut, fmt.Sprintf("not applied within %s, it is still tried%s", answerWithin, because(w.last)), now)
		}
		if !w.answered {
			again = earlier(again, w.answerBy)
		}
		if s.next.After(now) {
			again = earlier(again, s.next)
			continue
		}
		if found == nil || w.order < found.holder().order {
			found = s
		}
	}
	if found == nil {
		return target{}, false, again
	}
	w := found.holder()
	found.had, found.have = found.have, 0
	if !w.cloud() {
		if c := found.find((*wish).cloud); c != nil && !c.closed {
			c.done = false // is to be written again when the claims are gone, or after a restart
		}
	}
	return target{property: found.property.Name, order: w.order, value: w.value}, true, time.Time{}
}

// holdsStill reports whether t is still what its property is to be.
func (b *board) holdsStill(t target) bool {
	s, ok := b.slots[t.property]
	return ok && s.holds == t.order
}

// outcome is how one try of a write ended.
type outcome uint8

const (
	applied outcome = iota // the device shows it
	refused                // the device refuses it
	unseen                 // the device took it and does not show it
	failed                 // it may or may not have got it
	cut                    // something else came between
)

// ended takes the end of a try that next began. shown is what the device shows
// for t, where it is known; reason says why it is not applied.
func (b *board) ended(t target, how outcome, shown twin.Value, reason string, now time.Time) {
	s, ok := b.slots[t.property]
	if !ok {
		return
	}
	switch how {
	case applied:
		s.have = t.order
	case refused:
		s.have = s.had
		if c := s.find((*wish).cloud); c != nil && c.order == s.have {
			c.done = true // the device never left it
		}
	}
	w := s.byOrder(t.order)
	if w == nil || s.holds != t.order {
		return // something else took its place during the try
	}
	w.last = reason
	switch how {
	case applied:
		w.shown, w.done, s.tries, s.unseen, s.next = shown, true, 0, 0, time.Time{}
		if w.cloud() || !w.answered {
			b.answer(s, w, twin.Applied, "", now)
		}
		w.state, w.reason = twin.Applied, ""
	case refused:
		b.refusedByDevice(s, w, reason, now)
	case unseen:
		b.retry(s, now)
		if s.unseen++; s.unseen >= maxUnseen {
			b.giveUp(s, w, reason, now)
		}
	case failed:
		b.retry(s, now)
	}
}

func (b *board) retry(s *slot, now time.Time) {
	s.next = now.Add(min(minRetry<<min(s.tries, 10), maxRetry))
	s.tries++
}

// giveUp ends the tries of a wish that still holds.
func (b *board) giveUp(s *slot, w *wish, reason string, now time.Time) {
	w.closed, w.done = true, true
	if !w.answered {
		b.answer(s, w, twin.TimedOut, reason, now)
	}
	w.state, w.reason = twin.TimedOut, reason
}

// refusedByDevice ends a claim that the device refuses; the cloud's value stays, closed.
func (b *board) refusedByDevice(s *slot, w *wish, reason string, now time.Time) {
	if w.cloud() || !w.answered {
		b.answer(s, w, twin.Rejected, reason, now)
	}
	w.closed, w.done = true, true
	if !w.cloud() {
		s.remove(w)
		b.settle(s, now)
	}
}

// hurry lets what waits for its next try be tried now: the device answers again.
func (b *board) hurry() {
	for _, s := range b.slots {
		s.next = time.Time{}
	}
}
