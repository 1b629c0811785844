package serial

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/pkg/twin"
)

// Field is one property: which frames have it, where in them, and how it
// becomes a value. A Field is immutable and safe for concurrent use.
type Field struct {
	Property string
	Writable bool
	// Request is the index of the request in Declaration.Requests whose answer has
	// it; Unasked where the device says it by itself, and Assumed where it is what was written last.
	Request int

	when   recogniser
	source source
	binary bool
	format number.Format
	bad    []refusal
	write  *Write
}

// What a Field's Request is if no request brings it.
const (
	Unasked = -1
	Assumed = -2
)

// refusal is an answer or a frame that is no value.
type refusal struct {
	why   string
	match *regexp.Regexp
}

// refusedBy returns the word of the first refusal that frame matches.
func refusedBy(list []refusal, frame []byte) (string, bool) {
	for i := range list {
		if list[i].match.Match(frame) {
			return list[i].why, true
		}
	}
	return "", false
}

// Read returns the property's value in a message; false: the message has none, it is
// another's. The value is zero where the quality is bad: what the declaration calls bad,
// and what number.Format calls bad.
func (f *Field) Read(m *Message) (v twin.Value, quality twin.Quality, has bool) {
	if !f.when.matches(m) {
		return v, "", false
	}
	p := f.source.find(m)
	if !p.found {
		return v, "", false
	}
	v, quality = f.valueOf(m, p)
	return v, quality, true
}

// Answer returns the property's value in the answer to the request that brings it.
// It is as Read, and "bad:missing" where the answer does not have its place.
func (f *Field) Answer(m *Message) (twin.Value, twin.Quality) {
	return f.valueOf(m, f.source.find(m))
}

func (f *Field) valueOf(m *Message, p place) (twin.Value, twin.Quality) {
	if why, bad := refusedBy(f.bad, m.Data); bad {
		return twin.Value{}, twin.Bad(why)
	}
	switch {
	case !p.found:
		return twin.Value{}, badMissing
	case p.quality.IsBad():
		return twin.Value{}, p.quality
	case f.binary:
		return f.format.Decode(p.bytes)
	}
	text := p.text
	if p.bytes != nil {
		text = string(p.bytes)
	}
	v, q := f.format.DecodeText(text)
	if q.IsGood() && !p.quality.IsGood() {
		q = p.quality
	}
	return v, q
}

const badMissing twin.Quality = "bad:missing"

// recogniser says which messages have a property.
type recogniser struct {
	prefix []byte
	match  *regexp.Regexp
	equals []equal
}

type equal struct {
	source source
	want   string
}

func (r *recogniser) matches(m *Message) bool {
	if !hasPrefix(m.Data, r.prefix) || (r.match != nil && !r.match.Match(m.Data)) {
		return false
	}
	for i := range r.equals {
		if p := r.equals[i].source.find(m); !p.found || p.quality.IsBad() || strings.TrimSpace(p.text) != r.equals[i].want {
			return false
		}
	}
	return true
}

func hasPrefix(b, prefix []byte) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == string(prefix)
}

// sourceKind is a way to find a value in a message.
type sourceKind uint8

const (
	byNone sourceKind = iota
	byRegex
	byColumn
	byName
	byPointer
	byPlace
	byField
)

// source is where in a message a value is.
type source struct {
	kind      sourceKind
	match     *regexp.Regexp // byRegex
	group     int            // of match
	column    int
	separator string
	name      string   // byName, byField
	pointer   []string // byPointer
	at        int      // byPlace
	length    int      // byPlace
}

// place is where a message has a value, if it has.
type place struct {
	found   bool
	text    string
	bytes   []byte       // in place of text
	quality twin.Quality // bad: it says that there is none; uncertain: it doubts it
}

// find looks for the value. Where the source is nothing, every message has it, and none says what it is.
func (s *source) find(m *Message) (p place) {
	switch s.kind {
	case byRegex:
		at := s.match.FindSubmatchIndex(m.Data)
		switch {
		case at == nil:
		case at[2*s.group] < 0:
			p.found, p.quality = true, badMissing
		default:
			p.found, p.text = true, string(m.Data[at[2*s.group]:at[2*s.group+1]])
		}
	case byColumn:
		p.text, p.found = m.column(s.column, s.separator)
	case byName:
		p.text, p.found = m.pair(s.name)
	case byPointer:
		p.text, p.found = m.pointer(s.pointer)
	case byPlace:
		p.bytes, p.found = s.bytes(m)
	case byField:
		if m.Telegram != nil {
			f, found := m.Telegram.Field(s.name)
			p = place{found: found, text: f.Text, quality: f.Quality}
		}
	default:
		p.found, p.quality = true, badMissing
	}
	return p
}

// bytes returns the bytes at a place.
func (s *source) bytes(m *Message) ([]byte, bool) {
	at := s.at
	if at < 0 {
		at += len(m.Data)
	}
	if at < 0 || at+s.length > len(m.Data) {
		return nil, false
	}
	return m.Data[at : at+s.length], true
}

// String names the source, the same for the same place.
func (s *source) String() string {
	switch s.kind {
	case byRegex:
		return fmt.Sprintf("group %d of %q", s.group, s.match)
	case byColumn:
		return fmt.Sprintf("column %d parted by %q", s.column, s.separator)
	case byName:
		return "name " + s.name
	case byPointer:
		return "pointer /" + strings.Join(s.pointer, "/")
	case byPlace:
		return fmt.Sprintf("%d bytes at %d", s.length, s.at)
	case byField:
		return "field " + s.name
	}
	return "nothing"
}

// Write is how a property is set.
type Write struct {
	Raw bool // without framing and check
	Request
	// bare is what is sent, with its framing to come, but for ${value}.
	bare template
}

// Command returns the request that sets the property, and the value that a read
// shows when it has taken effect: the nearest that the format can say.
func (f *Field) Command(c *Config, v twin.Value) (Request, twin.Value, error) {
	r := f.write.Request
	var held twin.Value
	payload, err := f.payload(v, &held)
	if err != nil {
		return r, held, fmt.Errorf("write %s: %w", f.Property, err)
	}
	if !f.write.Raw { // a text must not end the frame and begin another
		if err := c.Framing.CanCarry(payload); err != nil {
			return r, held, fmt.Errorf("write %s: %w", f.Property, err)
		}
	}
	r.Send = c.frame(payload, f.write.Raw)
	return r, held, nil
}

// payload fills in the value.
func (f *Field) payload(v twin.Value, held *twin.Value) ([]byte, error) {
	if f.binary {
		b, h, err := f.format.Encode(v)
		*held = h
		return f.write.bare.fill(func(*part) []byte { return b }), err
	}
	text, h, err := f.format.EncodeText(v)
	if err != nil {
		return nil, err
	}
	*held = h
	var failed error
	out := f.write.bare.fill(func(p *part) []byte {
		said, err := p.format(text)
		if err != nil {
			failed = err
			return nil
		}
		shown, quality := f.format.DecodeText(said)
		if quality.IsBad() {
			failed = fmt.Errorf("%s would be sent as %q, which reads back as %s", v, said, quality)
		}
		*held = shown
		return []byte(said)
	})
	return out, failed
}

// Assume returns the value that is taken for the property's after it was written.
func (f *Field) Assume() bool { return f.Request == Assumed }

// Time returns when the message's values were true: by the instrument's own clock
// where it tells and is believed, else when the message came.
func (c *Config) Time(m *Message) (at time.Time, quality twin.Quality) {
	if c.Arrival || m.Telegram == nil || (m.Telegram.Time.IsZero() && !m.Telegram.HasDaytime) {
		return m.At, ""
	}
	at, most := m.Telegram.Time, maxClockError
	if m.Telegram.HasDaytime {
		at, most = nearest(m.Telegram.Daytime, m.At), maxDaytimeError
	}
	if off := at.Sub(m.At); off > most || off < -most {
		return m.At, uncertainClock
	}
	return at, ""
}

// nearest returns the time of day on the day that brings it nearest to now.
func nearest(daytime time.Duration, now time.Time) time.Time {
	const day = 24 * time.Hour
	at := now.UTC().Truncate(day).Add(daytime)
	switch off := at.Sub(now); {
	case off > day/2:
		return at.Add(-day)
	case off < -day/2:
		return at.Add(day)
	}
	return at
}

const (
	// maxClockError is what a clock of an instrument may be off and still be
	// believed: more than a wrong time zone, less than a battery that was empty.
	maxClockError = 24 * time.Hour
	// maxDaytimeError is the same for a time of day, whose clock is that of the satellites:
	// more than any leap second and slow line, less than a time zone.
	maxDaytimeError = 15 * time.Minute
	uncertainClock  = twin.Quality("uncertain:clock")
)
