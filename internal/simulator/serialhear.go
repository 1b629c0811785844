package simulator

import (
	"bytes"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// heard is something of an instrument's in what came over the line.
type heard struct {
	of       *Instrument
	from, to int    // where in what came
	payload  []byte // what it carries
	request  *serial.Request
	index    int           // of the request in the declaration; negative: it opens a conversation
	field    *serial.Field // of a write
	value    twin.Value    // of a write; zero where the quality is bad
	quality  twin.Quality
	meter    string // a step of the dialogue of IEC 62056-21
}

// reply is what the answer must be, if the declaration says so.
func (h *heard) reply() *serial.Reply {
	switch {
	case h.field != nil:
		return &h.field.Writing().Reply
	case h.request != nil:
		return &h.request.Reply
	}
	return nil
}

func (h *heard) name() string {
	switch {
	case h.field != nil:
		return "write " + h.field.Property
	case h.request != nil:
		return h.request.Name
	}
	return h.meter
}

// find returns the first that some instrument of the line hears in what came. quiet: nothing more comes for a
// while, so that what has no end of its own ends here, and what stands before it is noise.
func (l *serialLine) find(in []byte, quiet bool) (first heard, ok bool) {
	for _, i := range l.instruments {
		for h := range i.hears(in, quiet) {
			if !ok || h.from < first.from || h.from == first.from && h.to > first.to {
				h.of = i
				first, ok = h, true
			}
		}
	}
	return first, ok
}

// hears yields what the instrument finds in what came.
func (i *Instrument) hears(in []byte, quiet bool) func(func(heard) bool) {
	return func(yield func(heard) bool) {
		if i.config.Meter != nil {
			if h, ok := i.meter.hears(in); ok && !yield(h) {
				return
			}
		}
		for n := range i.decl.Requests {
			if !i.exactly(in, quiet, &i.decl.Requests[n], n, yield) {
				return
			}
		}
		for n := range i.config.Init {
			if !i.exactly(in, quiet, &i.config.Init[n], -1, yield) {
				return
			}
		}
		i.commands(in, quiet, yield)
	}
}

// exactly yields a request where its bytes are: at the beginning of what came, or anywhere in it when the line is quiet.
func (i *Instrument) exactly(in []byte, quiet bool, r *serial.Request, index int, yield func(heard) bool) bool {
	at := bytes.Index(in, r.Send)
	if r.Dialog || at < 0 || at > 0 && !quiet {
		return true
	}
	return yield(heard{from: at, to: at + len(r.Send), payload: r.Send, request: r, index: index})
}

// commands yields the writes in what came.
func (i *Instrument) commands(in []byte, quiet bool, yield func(heard) bool) {
	writes := func(payload []byte, from, to int, raw, ended bool) bool {
		for n := range i.dials {
			f := i.dials[n].field
			w := f.Writing()
			if w == nil || w.Raw != raw || f.Open(i.config) && !ended {
				continue
			}
			if v, q, is := f.Commanded(i.config, payload); is && !yield(heard{from: from, to: to, payload: payload, field: f, value: v, quality: q}) {
				return false
			}
		}
		return true
	}
	if !writes(in, 0, len(in), true, quiet) {
		return
	}
	s := framing.NewScanner(i.config.Framing)
	now := time.Unix(0, 0)
	s.Push(in, now)
	if i.config.Framing.Kind == framing.Silence {
		s.Quiet(now.Add(time.Hour))
	}
	for {
		f, ok := s.Next()
		if !ok || !writes(f.Data, int(f.Start), int(f.Start)+len(f.Raw), false, quiet) {
			return
		}
	}
}
