// Package framing finds frames in the bytes of a serial line, and builds the frames to
// send. It does no I/O and has no clock: times are passed in. DESIGN.md says how
// it gets back into step.
package framing

import (
	"time"

	"github.com/twinline/twinline/internal/checksum"
)

// Kind is what tells where a frame ends.
type Kind string

// The kinds.
const (
	Delimiter Kind = "delimiter" // a sequence ends each frame
	Between   Kind = "between"   // a frame stands between two sequences
	Fixed     Kind = "fixed"     // all frames are equally long
	Length    Kind = "length"    // a field says how long the frame is
	Silence   Kind = "silence"   // the line is quiet between frames
)

// Bounds of Config.Max.
const (
	// MaxFrame is the longest raw frame that may be asked for, in bytes.
	MaxFrame = 64 << 10
	// DefaultMax is used where Max is 0: more than the telegram of an electricity meter, DSMR P1 or IEC 62056-21.
	DefaultMax = 4096
)

// Config says how the frames of a line look. It must not change while a Scanner uses it.
type Config struct {
	Kind Kind

	// Delimiter ends a frame of kind Delimiter. Empty frames are skipped silently.
	Delimiter []byte

	// Start and End enclose a frame of kind Between. Start may be given with Delimiter (what is before it is noise),
	// Fixed and Length (frames are found by it); End with Fixed and Length, where it is what the frame ends in.
	Start, End []byte
	// Restart says that Start within a frame begins the frame anew, because what a
	// frame carries cannot hold it: so a frame that was cut off is not joined to the next.
	// For Delimiter and Between without Escape and Check; these do it of their own.
	Restart bool
	// After is how many bytes stand behind End or Delimiter and belong to the frame: a check.
	After int
	// AfterDelimiter, for Between, ends what stands behind End: it is of any length up to After,
	// AfterDelimiter included. DSMR P1 has "!\r\n" in versions 2 and 3, "!hhhh\r\n" since.
	AfterDelimiter []byte
	// Escape is how Delimiter or End is hidden where it stands in the payload.
	Escape Escape

	// Size is the length of a frame of kind Fixed.
	Size int

	// Offset and Width place the field of kind Length: 1 to 4 bytes, big endian
	// unless Little. The length of the raw frame is what it says, plus Adjust.
	Offset, Width int
	Little        bool
	Adjust        int

	// Gap is the silence that ends a frame of kind Silence. With the others, if it is not
	// 0, no frame goes across it: what was not whole before is given up.
	Gap time.Duration

	// Max is the longest raw frame, all included. 0: DefaultMax.
	Max int

	// Check is what guards a frame. Nil: nothing does.
	Check *Check
}

// Mode is a way of escaping.
type Mode string

// The modes. None is the zero value.
const (
	None Mode = ""
	// Double: With is a byte, or a byte repeated; twice With is With. Delimiter or End, and Start if you like, begin
	// with it: DLE DLE beside DLE ETX, 1B1B1B1B twice beside 1B1B1B1B 1A of SML.
	Double Mode = "double"
	// Prefix: With is one byte; it and the byte x behind it are x.
	Prefix Mode = "prefix"
	// SLIP: DB DC is C0, DB DD is DB; C0 ends the frame (RFC 1055).
	SLIP Mode = "slip"
	// HDLC: 7D and x behind it are x^20; 7E ends the frame (RFC 1662 section 4.2).
	HDLC Mode = "hdlc"
)

// Escape is how a payload holds bytes that would end the frame.
type Escape struct {
	Mode Mode
	With []byte // for Double and Prefix
}

// Encoding is how a check is written.
type Encoding string

// The encodings. Binary is the zero value.
const (
	Binary  Encoding = ""
	Hex     Encoding = "hex"     // digits; either case is read, capitals are written
	Decimal Encoding = "decimal" // digits
)

// Check is where the checksum stands and what it covers. Positions are those in the raw frame after unescaping:
// Start, the content, Delimiter or End, and what is After. From 0 on they count from its
// first byte; negative ones count from its end, -1 is the last byte.
//
// Where the check stands at an edge of the content it is no part of Frame.Data, nor is Mark.
type Check struct {
	Algorithm checksum.Algorithm
	// From is the first byte covered, To the one behind the last. To 0: up to the check and
	// its Mark, or to the end of the frame if the check stands before From.
	From, To int
	// At is the first byte of the check.
	At int
	// Mark stands right before the check: "*" in NMEA 0183.
	Mark     []byte
	Encoding Encoding
	// Digits is how many Hex or Decimal has. 0: what the algorithm needs, two for 8 bits in Hex, three in Decimal.
	Digits int
	// Little: the least significant byte comes first; for Binary and Hex.
	Little bool
	// Mask is what counts of the sum and of the check. 0: all.
	Mask uint64
	// SevenBit strips bit 7 of what is covered before summing.
	SevenBit bool
}

// NMEA returns the lines of NMEA 0183 (IEC 61162-1 section 7.3) with their checksum. Start is '$', or '!' for encapsulated
// sentences (AIS). Data is what is between it and '*': "GPGGA,…"; a sentence without a checksum is not taken.
func NMEA(start byte) Config {
	xor, _ := checksum.Find("nmea")
	return Config{
		Kind: Delimiter, Start: []byte{start}, Delimiter: []byte("\r\n"),
		Check: &Check{Algorithm: xor, From: 1, At: -4, Mark: []byte("*"), Encoding: Hex},
	}
}

// max returns the longest raw frame.
func (c *Config) max() int {
	if c.Max == 0 {
		return DefaultMax
	}
	return c.Max
}

// term returns what ends a frame, nil if it is no sequence.
func (c *Config) term() []byte {
	switch c.Kind {
	case Delimiter:
		return c.Delimiter
	case Between:
		return c.End
	default:
		return nil
	}
}
