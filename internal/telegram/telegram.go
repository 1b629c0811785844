// Package telegram has the words in which a profile says what an instrument
// sent: one frame, taken apart into named fields.
package telegram

import (
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// MaxFields bounds the fields of one Telegram. A decoder that finds more is to
// return an error: no instrument of the profiles sends half as many.
const MaxFields = 1024

// Telegram is what one frame says.
type Telegram struct {
	// Kind tells frames of one device apart where the format has kinds: "RMC" of
	// NMEA 0183. Empty: it has none.
	Kind string
	// Sender is who sent it, where the frame says so: the number of a meter, the
	// talker of a sentence. Several devices on a line are told apart by it.
	Sender string
	// Time is the time by the instrument's own clock, UTC; zero: the frame carries none.
	Time time.Time
	// Daytime is the time of day by that clock, UTC, of a frame that gives no date: how
	// long after midnight. It counts where HasDaytime is set, and Time is zero then.
	Daytime    time.Duration
	HasDaytime bool
	// Fields are in the frame's order; names are unique.
	Fields []Field
}

// Field is one named value.
type Field struct {
	// Name is stable: it is what people write in a Device. It is documented with the profile.
	Name string
	// Text is the value: a number in decimal notation without an exponent,
	// "true" or "false", or any text. It keeps the digits that the frame has, so that nothing is rounded.
	Text string
	// Unit is as the frame or the format says: "kWh", "V". Empty: none.
	Unit string
	// Quality is bad where the frame has the field and says that it holds no
	// value (a position without a fix); Text is not used then. Zero: good.
	Quality twin.Quality
}

// Field returns the field of that name.
func (t *Telegram) Field(name string) (Field, bool) {
	for i := range t.Fields {
		if t.Fields[i].Name == name {
			return t.Fields[i], true
		}
	}
	return Field{}, false
}
