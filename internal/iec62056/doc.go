// Package iec62056 reads meters that speak IEC 62056-21 (formerly IEC 1107 and
// IEC 61107) in modes A, B and C on request, and decodes what meters of mode D
// send by themselves. Section numbers are those of IEC 62056-21:2002. See DESIGN.md.
//
// The fields of a Telegram are named after the addresses of the data sets, as
// the meter writes them: "1.8.0", "1.8.0*05", "1-0:1.8.0*255", "F.F". A value
// without an address of its own belongs to the address before it. The second and every
// further value of one address is "1.6.0#2", "1.6.0#3", and so on, whether they
// stand in one data set or the address comes again; values before any address are "#1", "#2".
//
// The text of a field is what stands before "*", with all its digits, its leading zeros
// and its sign; only blanks around it are taken off. The unit is what stands
// behind "*". Previous values have a unit only where the meter repeats it.
// Dates and times are text: a meter's clock has no time zone, so Telegram.Time is always zero.
// The Sender is the identification behind the manufacturer, the baud rate and the
// mode: "MT174-0001".
package iec62056

import "errors"

// Kinds of errors, for errors.Is.
var (
	// ErrSilent says that the meter did not answer at all.
	ErrSilent = errors.New("no answer")
	// ErrDamaged says that something came that is not whole: a wrong or missing
	// block check character, a message without an end, noise.
	ErrDamaged = errors.New("damaged")
	// ErrRefused says that the meter answered, and that it does not do what is
	// asked: an error message, a break, another mode than was configured.
	ErrRefused = errors.New("refused")
	// ErrFormat says that a message arrived whole and is not what the standard describes.
	ErrFormat = errors.New("not in the format of IEC 62056-21")
	// ErrFixed is what a Line wraps in the error of SetBaud when its rate cannot be changed, or not to that.
	ErrFixed = errors.New("the line cannot change its rate")
)

// Control characters of section 6.3.14.
const (
	soh = 0x01
	stx = 0x02
	etx = 0x03
	ack = 0x06
	nak = 0x15
)

// MaxMessage bounds one message in bytes. The longest readouts, with 15 months
// of previous values, have about 10000; at 300 baud this much takes 18 minutes.
const MaxMessage = 32 << 10
