package simulator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twinline/twinline/internal/serial"
)

// stream is one frame that an instrument sends by itself, again and again.
type stream struct {
	every  time.Duration
	fields []*serial.Field // what it says
	text   *serial.Wording // scripted; nil: it follows from the fields
	raw    bool
}

// says returns the frame as it is now; i.mu is held.
func (i *Instrument) says(s *stream) ([]byte, error) {
	if s.text != nil {
		return i.worded(*s.text, s.raw)
	}
	return i.frame(nil, i.shown(func(f *serial.Field) bool { return slices.Contains(s.fields, f) }))
}

// speak sends a stream to all who are on the line, until ctx ends.
func (l *serialLine) speak(ctx context.Context, i *Instrument, s *stream) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		if clients := l.hearers(); len(clients) > 0 {
			l.say(ctx, i, s, clients)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// hearers are those who are on the line. What is said to nobody counts for no fault, or every second
// one might never be seen by a client that comes back for the others.
func (l *serialLine) hearers() []*client {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.clients))
}

// say sends a stream's frame once.
func (l *serialLine) say(ctx context.Context, i *Instrument, s *stream, clients []*client) {
	i.mu.Lock()
	frame, err := i.says(s)
	fault, faulty := i.faults.next()
	i.mu.Unlock()
	if err != nil {
		i.log.Warn("nothing said", "device", i.id.String(), "error", err)
		return
	}
	if !faulty {
		fault.Do = ""
	}
	if fault.Do == Late || fault.Do == Hang {
		if pause(ctx, fault.delay()) != nil || fault.Do == Hang {
			return
		}
		fault.Do = ""
	}
	for _, c := range clients {
		c.forget()
		if c.write(ctx, frame, fault) != nil && c.drop != nil {
			c.drop()
		}
	}
}
