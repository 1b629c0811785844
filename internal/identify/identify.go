// Package identify says what bytes that were heard on a serial line look like: which profile
// reads them, or which framing and which fields a Device would declare. It does no I/O and
// keeps no state. DESIGN.md says how far it can be believed.
package identify

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// Candidate is one thing that bytes may be.
type Candidate struct {
	What   string // for people: "NMEA 0183", "lines of NAME=VALUE"
	Reason string // in words, with what was counted
	Score  int    // 0 to 100: how much speaks for it; see Convincing
	// Config has keys of a device's configData, as serial.DeviceTable describes them: a
	// profile, or a framing and a check, and requests where it answers only when asked.
	Config map[string]any
	// SevenBits is "even" or "odd" where the bytes are read so with their parity bit taken off: the line
	// is then to be opened with 7 data bits and that parity.
	SevenBits string

	Frames, Damaged, Skipped int // of the bytes that were heard
	Fields                   []Field
}

// Convincing is the Score from which on a Candidate is taken for right without a look at others: a check that fits
// more than once, or a shape that noise does not have.
const Convincing = 70

// Plausible is the least Score of a Candidate of which more than the times of its bytes are known: noise has bursts too.
const Plausible = 45

// Field is a value that the frames of a Candidate have.
type Field struct {
	Name    string
	Text    string // the last that was seen, as number.DecodeText reads it
	Unit    string
	Quality twin.Quality   // of the last; Text is that of the last good one
	Type    twin.Type      // what fits all that was seen; empty: no good value was
	Visitor map[string]any // the configData of a property with this value
}

// Profile returns the profile, "" where the Candidate is none.
func (c *Candidate) Profile() string {
	name, _ := c.Config["profile"].(string)
	return name
}

// MaxBytes bounds what Guess looks at: the last so many bytes.
const MaxBytes = 256 << 10

// Guess says what bytes may be, the likeliest first. It returns nothing for no bytes, and for bytes
// in which it sees no order. The work grows with the number of bytes; some 100 ms for MaxBytes.
func Guess(heard []serial.Chunk) []Candidate {
	heard = tail(heard, MaxBytes)
	list := guess(heard)
	if parity := Describe(heard).Parity; parity != "" {
		for _, c := range guess(stripped(heard)) {
			c.SevenBits = parity
			c.Reason += fmt.Sprintf("; read as 7 data bits with %s parity, which each byte has", parity)
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(b.Score, a.Score) })
	return list
}

func guess(heard []serial.Chunk) []Candidate {
	var list []Candidate
	add := func(c Candidate, ok bool) {
		if ok {
			list = append(list, c)
		}
	}
	for _, name := range serial.ProfileNames() {
		if serial.Decodes(name) {
			add(profile(name, heard, false))
		}
	}
	text := split(joined(heard))
	add(text.documents(heard))
	add(text.pairs(heard))
	add(text.columns(heard))
	add(text.plain(heard))
	add(enclosed(heard))
	add(fixed(heard))
	add(silent(heard))
	return list
}

// tail returns the end of what was heard, at most n bytes of it.
func tail(heard []serial.Chunk, n int) []serial.Chunk {
	for i := len(heard) - 1; i >= 0; i-- {
		if n -= len(heard[i].Data); n < 0 {
			out := slices.Clone(heard[i:])
			out[0].Data = out[0].Data[-n:]
			return out
		}
	}
	return heard
}

func joined(heard []serial.Chunk) []byte {
	var b []byte
	for _, c := range heard {
		b = append(b, c.Data...)
	}
	return b
}

// stripped returns what was heard without the topmost bits.
func stripped(heard []serial.Chunk) []serial.Chunk {
	out := make([]serial.Chunk, len(heard))
	for i, c := range heard {
		out[i] = serial.Chunk{At: c.At, Data: slices.Clone(c.Data)}
		for k := range out[i].Data {
			out[i].Data[k] &= 0x7f
		}
	}
	return out
}

// wording is how one speaks of a profile's frames.
type wording struct{ title, frame, proof string }

// wordsOf returns the words for a profile; those that are not here are spoken of in general.
func wordsOf(profile string) wording {
	known := map[string]wording{
		"nmea":     {"NMEA 0183", "line", "a right NMEA checksum"},
		"dsmr":     {"a P1 telegram (DSMR)", "telegram", "a right CRC, where the version has one"},
		"sml":      {"SML", "telegram", "a right CRC"},
		"toledo":   {"the continuous output of a scale (METTLER TOLEDO)", "frame", "the form of that output"},
		"sics":     {"what a scale says by MT-SICS", "line", "the form of a weight"},
		"iec62056": {"a meter's readout (IEC 62056-21)", "readout", "a right end or block check"},
	}
	if w, ok := known[profile]; ok {
		return w
	}
	if profile == "" {
		return wording{"what was declared", "frame", "the form that was declared"}
	}
	return wording{"the profile " + profile, "frame", "the form that the profile " + profile + " knows"}
}

// checked are the profiles whose frames prove themselves, and how much one that does is worth.
func checked(profile string) int {
	switch profile {
	case "dsmr", "sml":
		return 98
	case "nmea":
		return 95
	case "iec62056":
		return 88 // without STX it has no check, and P1 telegrams look alike
	case "toledo":
		return 86
	}
	return 80
}

// profile tries a profile. One that only says where lines end says nothing: it has no values.
func profile(name string, heard []serial.Chunk, asked bool) (Candidate, bool) {
	c, ok := As(map[string]any{"profile": name}, heard, asked)
	return c, ok && len(c.Fields) > 0
}

// As says what bytes are to a device with this configData; false: they have none of its frames, or it is wrong.
// asked says that they answer a question.
func As(config map[string]any, heard []serial.Chunk, asked bool) (Candidate, bool) {
	t, err := serial.Try(config, heard, asked)
	if err != nil || t.Frames == 0 {
		return Candidate{}, false
	}
	name, _ := config["profile"].(string)
	bad := t.Unread + t.Damaged
	if bad > 0 && t.Cut {
		bad--
	}
	w := wordsOf(name)
	c := Candidate{
		What: w.title, Config: config, Frames: t.Frames, Damaged: t.Unread + t.Damaged, Skipped: t.Skipped,
		Reason: fmt.Sprintf("%d of %s %s %s", t.Frames, count(t.Frames+bad, w.frame), has(t.Frames+bad), w.proof),
		Score:  score(checked(name), t.Frames, bad, share(&t)), Fields: merged(t.Values),
	}
	if t.Cut && t.Unread+t.Damaged > bad {
		c.Reason += ", the first of which only the end was heard not counted"
	}
	return c, true
}

// share is how much of what was heard is in frames, but for what may be cut off at the ends.
func share(t *serial.Tried) float64 {
	lost := t.Skipped
	if t.Frames > 0 && lost <= t.Covered/t.Frames {
		lost = 0 // the end of a frame that began before
	}
	return float64(t.Covered) / float64(max(t.Covered+lost, 1))
}

// score lowers best for frames that are bad, for bytes outside of frames, and where there are few.
func score(best, good, bad int, share float64) int {
	s := float64(best) * float64(good) / float64(good+bad) * (0.5 + share/2)
	switch good {
	case 1:
		s *= 0.9
	case 2:
		s *= 0.97
	}
	return int(s)
}

// maxFields bounds the fields of a Candidate: more are no use in a draft.
const maxFields = 256

// merged puts the values of frames together, each name once, in the order in which they came.
func merged(frames [][]telegram.Field) []Field {
	s := &fieldSet{at: map[string]int{}}
	for _, frame := range frames {
		for _, v := range frame {
			if f := s.field(v.Name, map[string]any{"field": v.Name}); f != nil {
				f.see(v.Text, v.Unit, v.Quality)
			}
		}
	}
	return s.list
}

// see notes a value of the field.
func (f *Field) see(text, unit string, quality twin.Quality) {
	f.Quality = quality
	if unit != "" {
		f.Unit = unit
	}
	if quality.IsBad() {
		return
	}
	f.Text = text
	f.Type = wider(f.Type, typeOf(text, f.Unit))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func has(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}
