// Package nmea reads sentences of NMEA 0183, as GNSS receivers, weather
// stations, sounders and other instruments of ships send them. What a sentence means
// is github.com/adrianmo/go-nmea's knowledge; which of its fields hold a value, and
// their digits, is this package's.
package nmea

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	nmea "github.com/adrianmo/go-nmea"

	"github.com/twinline/twinline/internal/checksum"
	"github.com/twinline/twinline/internal/telegram"
)

// ErrChecksum is wrapped when a sentence was damaged on its way: its checksum is wrong.
var ErrChecksum = errors.New("wrong checksum")

// ErrFormat is wrapped when a line is no sentence, has no checksum, or is not as its type demands.
var ErrFormat = errors.New("not a sentence of NMEA 0183")

// MaxLine bounds the characters of a sentence. The standard says 82; many
// receivers exceed it, none by this much. Fields are parted by commas, so there
// are never more than a Telegram may have.
const MaxLine = telegram.MaxFields

// maxAddress bounds the address, talker and type. The standard says five; makers'
// own are longer: PSKPDPT.
const maxAddress = 16

// Decoder reads sentences. It keeps the names of the types that it has read,
// and nothing of what they said. It is safe for concurrent use.
type Decoder struct {
	sum    checksum.Algorithm
	guards map[string][]guard
	tables tables
	only   []string // names of the fields that are read; nil: all

	mu    sync.Mutex
	plans map[string][]spec // by the kind; go-nmea's types bound it
}

// New returns a Decoder of all fields.
func New() *Decoder {
	sum, _ := checksum.Find("xor8")
	return &Decoder{sum: sum, guards: guards(), tables: newTables(), plans: map[string][]spec{}}
}

// Only returns a Decoder that reads these fields, and others only where these depend
// on them. Of a sentence with none of them it returns Kind and Sender, and
// its checksum is all that it checks.
func Only(fields ...string) *Decoder {
	d := New()
	d.only = append([]string{}, fields...)
	return d
}

// Decode reads one sentence, `$GPRMC,…*hh` or `!AIVDM,…*hh`, without what ends the line.
//
// Kind is the type, "RMC", Sender the talker, "GP". A maker's own sentence is of the
// whole address, "PGRME", and its talker "P".
//
// The fields are named after type and go-nmea's field, "RMC.latitude",
// "GSV.info.0.svprnNumber"; testdata/names.golden has all of them with their units.
// Of a type that go-nmea does not know they are numbered from 1: "PUBX.1".
//   - Numbers keep the digits of the sentence, without leading zeros. A latitude or longitude is decimal
//     degrees, south and west negative, computed exactly and rounded to 8 digits.
//   - A time of day is "12:35:19", a date "1994-03-23".
//   - A field that is empty, or that a shorter sentence does not have, is
//     bad:empty. A list has only the items that the sentence has.
//   - What depends on a fix that the receiver says not to have is bad:no-fix, other values that
//     the instrument says not to be valid bad:invalid. Estimated, simulated and manual
//     values are good; the field that says so is there.
//   - Escapes (^2C) and the six bits of AIS are left as they are.
//
// Time is set by RMC with a valid fix and by ZDA, which have a date; two digits of a year
// are 1980 to 2079. A date that a receiver has wrong by 1024 weeks is not put right.
// GGA, GLL and GNS with a fix have the time of day: Daytime. Time is zero for all but the first two.
//
// Errors wrap ErrChecksum or ErrFormat.
func (d *Decoder) Decode(line []byte) (telegram.Telegram, error) {
	out, err := d.address(line)
	if err == nil && d.reads(out.Kind) {
		err = d.fields(&out, string(line))
	}
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("read NMEA sentence %.100q: %w", line, err)
	}
	return out, nil
}

// reads reports whether a kind of sentence has a field that is read.
func (d *Decoder) reads(kind string) bool {
	return d.only == nil || slices.ContainsFunc(d.only, func(name string) bool { return within(name, kind) })
}

// within reports whether a name is that of a part of whole: "RMC.speed" of "RMC".
func within(name, whole string) bool {
	return len(name) > len(whole) && name[len(whole)] == '.' && name[:len(whole)] == whole
}

// fields reads what a sentence says.
func (d *Decoder) fields(out *telegram.Telegram, line string) error {
	r, err := parse(line)
	if err != nil {
		return err
	}
	r.kind = out.Kind
	if r.sentence == nil {
		out.Fields = r.numbered()
	} else {
		r.fill(d.plan(out.Kind, r.sentence))
		r.judge(d.guards[out.Kind])
		r.measure(d.tables)
		out.Fields, out.Time = r.fields, r.time()
		out.Daytime, out.HasDaytime = r.daytime()
	}
	return nil
}

// tail is the length of a checksum.
const tail = len("*hh")

// check refuses what is no sentence, before anybody takes it apart.
func (d *Decoder) check(line []byte) error {
	switch {
	case len(line) > MaxLine:
		return fmt.Errorf("%w: %d characters; at most %d are read", ErrFormat, len(line), MaxLine)
	case len(line) == 0 || line[0] != '$' && line[0] != '!':
		return fmt.Errorf("%w: neither $ nor ! begins it", ErrFormat)
	case len(line) < 1+tail || line[len(line)-tail] != '*':
		return fmt.Errorf("%w: it has no checksum", ErrFormat)
	}
	var want [1]byte
	end := len(line) - tail
	if _, err := hex.Decode(want[:], line[end+1:]); err != nil {
		return fmt.Errorf("%w: its checksum is not hexadecimal", ErrFormat)
	}
	if got := byte(d.sum.Sum(line[1:end])); got != want[0] {
		return fmt.Errorf("%w: %02X, not %02X", ErrChecksum, want[0], got)
	}
	for _, c := range line[:end] {
		if c < ' ' || c > '~' || c == '*' || c == '\\' { // a backslash would begin a tag block
			return fmt.Errorf("%w: character %q", ErrFormat, c)
		}
	}
	return nil
}

// address checks a sentence and reads what kind it is, and whose.
func (d *Decoder) address(line []byte) (telegram.Telegram, error) {
	if err := d.check(line); err != nil {
		return telegram.Telegram{}, err
	}
	address, _, _ := bytes.Cut(line[1:len(line)-tail], []byte{','})
	if len(address) == 0 || len(address) > maxAddress {
		return telegram.Telegram{}, fmt.Errorf("%w: address of %d characters", ErrFormat, len(address))
	}
	for _, c := range address {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return telegram.Telegram{}, fmt.Errorf("%w: address %q", ErrFormat, address)
		}
	}
	talker, kind, err := nmea.ParsePrefix(string(address))
	if err != nil {
		return telegram.Telegram{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if talker == string(nmea.ProprietarySentencePrefix) {
		kind = string(address)
	}
	return telegram.Telegram{Kind: kind, Sender: talker}, nil
}

// reading is a sentence while its fields are put together.
type reading struct {
	kind       string
	base       nmea.BaseSentence
	sentence   nmea.Sentence // nil: of a type that is not known
	fixQuality string        // of GGA, where go-nmea does not know it
	fields     []telegram.Field
	numbers    []numeral // of base.Fields, as far as digits looked for them
}

// parse takes a sentence apart that was checked. A panic of the library becomes an
// error: it reads past the end of some sentences that are too short (TXT).
func parse(line string) (r *reading, err error) {
	r = &reading{}
	p := nmea.SentenceParser{
		NaNForEmptyFloat:    true,
		MaxInt64ForEmptyInt: true,
		CheckCRC:            func(nmea.BaseSentence, string) error { return nil },
		OnBaseSentence:      r.began,
	}
	defer func() {
		if failed := recover(); failed != nil {
			r, err = nil, fmt.Errorf("%w: %v", ErrFormat, failed)
		}
	}()
	r.sentence, err = p.Parse(line)
	var unknown *nmea.NotSupportedError
	if errors.As(err, &unknown) {
		r.sentence = nil
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return r, nil
}

// began keeps what the sentence has, before the library parses it.
func (r *reading) began(s *nmea.BaseSentence) error {
	r.base = *s
	// Manual and simulated fixes (NMEA 0183 2.30, GGA) are refused by go-nmea, with all else that the sentence says.
	const at = 5
	if s.Type == nmea.TypeGGA && len(s.Fields) > at && (s.Fields[at] == "7" || s.Fields[at] == "8") {
		r.fixQuality = s.Fields[at]
		s.Fields = append([]string(nil), s.Fields...)
		s.Fields[at] = ""
	}
	return nil
}

// numbered returns the fields of a sentence that is not known.
func (r *reading) numbered() []telegram.Field {
	fields := make([]telegram.Field, 0, len(r.base.Fields))
	for i, raw := range r.base.Fields {
		fields = append(fields, textField(fmt.Sprintf("%s.%d", r.kind, i+1), raw))
	}
	return fields
}
