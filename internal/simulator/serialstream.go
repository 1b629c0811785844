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
		i.mu.Lock()
		frame, err := i.says(s)
		fault, faulty := i.faults.next()
		i.mu.Unlock()
		if !faulty {
			fault.Do = ""
		}
		if err != nil {
			i.log.Warn("nothing said", "device", i.id.String(), "error", err)
		} else {
			l.broadcast(ctx, frame, fault)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *serialLine) broadcast(ctx context.Context, frame []byte, fault Fault) {
	if fault.Do == Late || fault.Do == Hang {
		if pause(ctx, fault.delay()) != nil || fault.Do == Hang {
			return
		}
		fault.Do = ""
	}
	l.mu.Lock()
	clients := slices.Collect(maps.Keys(l.clients))
	l.mu.Unlock()
	for _, c := range clients {
		c.forget()
		if c.write(ctx, frame, fault) != nil && c.drop != nil {
			c.drop()
		}
	}
}
