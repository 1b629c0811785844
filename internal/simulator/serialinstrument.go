package simulator

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// dial is one property of an instrument.
type dial struct {
	field *serial.Field
	prop  *twin.Property
	wave  wave
}

// Instrument is one simulated serial device. Its methods are safe for concurrent use.
type Instrument struct {
	id      twin.DeviceID
	config  *serial.Config
	decl    *serial.Declaration
	start   time.Time
	log     *slog.Logger
	replies map[string]serial.Wording // scripted, by the name of the request
	streams []stream
	meter   meter

	mu       sync.Mutex
	dials    []dial
	faults   *faults
	requests uint64
}

// Set makes a property show v until it is written; for tests. false: there is no such property.
func (i *Instrument) Set(property string, v twin.Value) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if d := i.dial(property); d != nil {
		d.hold(v)
		return true
	}
	return false
}

// Get returns what a property shows now. false: there is no such property.
func (i *Instrument) Get(property string) (twin.Value, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if d := i.dial(property); d != nil {
		return d.wave.at(time.Since(i.start)), true
	}
	return twin.Value{}, false
}

// Requests returns how many requests the instrument has had, writes and what opens a conversation included.
func (i *Instrument) Requests() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests
}

// dial returns a property; i.mu is held.
func (i *Instrument) dial(property string) *dial {
	for n := range i.dials {
		if i.dials[n].prop.Name == property {
			return &i.dials[n]
		}
	}
	return nil
}

func (d *dial) hold(v twin.Value) { d.wave.Wave.Wave, d.wave.fixed = "hold", v }

// shown returns what the properties show now that which wants; i.mu is held.
func (i *Instrument) shown(which func(f *serial.Field) bool) []serial.Shown {
	var list []serial.Shown
	since := time.Since(i.start)
	for n := range i.dials {
		if d := &i.dials[n]; which(d.field) {
			list = append(list, serial.Shown{Field: d.field, Value: d.wave.at(since)})
		}
	}
	return list
}

// all wants every property.
func all(*serial.Field) bool { return true }

// answer counts what was heard, carries it out, and returns the frame that answers it (nil: none does) and the fault to play with it.
func (i *Instrument) answer(h *heard) ([]byte, Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if h.meter != "" && !i.meter.counts(h.meter) {
		return i.dialogue(h), Fault{}
	}
	i.requests++
	fault, faulty := i.faults.next()
	if !faulty {
		fault.Do = ""
	}
	var frame []byte
	var err error
	switch {
	case fault.Do == Exception && h.reply() != nil:
		frame, err = i.refuse(h.reply())
	case h.meter != "":
		frame = i.dialogue(h)
	case h.field != nil:
		frame, err = i.write(h)
	default:
		frame, err = i.reply(h.request, h.index, h.payload)
	}
	if err != nil {
		i.log.Warn("no answer", "device", i.id.String(), "request", h.name(), "error", err)
	}
	return frame, fault
}

// reply answers a request of the declaration; index is negative of one that only opens a conversation.
func (i *Instrument) reply(r *serial.Request, index int, question []byte) ([]byte, error) {
	if r.Reply.None {
		return nil, nil
	}
	if w, ok := i.replies[r.Name]; ok {
		return i.worded(w, false)
	}
	var shown []serial.Shown
	if index >= 0 {
		shown = i.shown(func(f *serial.Field) bool { return f.Request == index })
	}
	if len(shown) == 0 {
		payload, err := i.config.Yes(&r.Reply, question)
		if err != nil {
			return nil, err
		}
		return i.config.Frame(payload, false), nil
	}
	return i.frame(&r.Reply, shown)
}

// frame returns the frame that says what is shown, as it follows from the declaration.
func (i *Instrument) frame(reply *serial.Reply, shown []serial.Shown) ([]byte, error) {
	if _, profiled := shown[0].Field.Key(); profiled {
		return i.telegram(shown)
	}
	payload, err := i.config.Render(reply, shown)
	if err != nil {
		return nil, err
	}
	return i.config.Frame(payload, false), nil
}

// worded returns the frame of a scripted text; i.mu is held.
func (i *Instrument) worded(w serial.Wording, raw bool) ([]byte, error) {
	byName := map[string]serial.Shown{}
	for _, s := range i.shown(all) {
		byName[s.Field.Property] = s
	}
	payload, err := w.Fill(byName)
	if err != nil {
		return nil, err
	}
	if i.profile() == "nmea" && !raw {
		payload = sealNMEA(payload)
	}
	return i.config.Frame(payload, raw), nil
}

// write sets a property, where its bounds allow.
func (i *Instrument) write(h *heard) ([]byte, error) {
	w := h.field.Writing()
	d := i.dial(h.field.Property)
	if err := d.prop.CheckRange(h.value); h.quality.IsBad() || err != nil {
		if w.Reply.None {
			return nil, nil
		}
		return i.refuse(&w.Reply)
	}
	d.hold(h.value)
	return i.reply(&w.Request, -1, h.payload)
}

// refuse says no.
func (i *Instrument) refuse(r *serial.Reply) ([]byte, error) {
	payload, err := i.config.No(r, "range")
	if err != nil {
		return nil, fmt.Errorf("refuse: %w", err)
	}
	return i.config.Frame(payload, false), nil
}
