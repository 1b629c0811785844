package sml

import (
	"strconv"
	"time"
)

// Variants of a time (SML 1.04, 6.3.5).
const (
	timeIndex = 1
	timeUTC   = 2
	timeLocal = 3 // UTC, with the offsets of the local time and of summer
)

// moment is a time as a meter says it: by a clock, or by a counter of seconds
// that begins anywhere. Zero: it says none, or its clock was never set.
type moment struct {
	clock time.Time
	index string
}

// moment reads an optional time.
func (c *cursor) moment() (moment, error) {
	if c.absent() {
		return moment{}, nil
	}
	if c.isNext(unsigned) { // Holley DTZ541: a counter of seconds, without saying so
		return c.counter()
	}
	if err := c.sequence(2, "time"); err != nil {
		return moment{}, err
	}
	tag, err := c.unsigned("type of time")
	if err != nil {
		return moment{}, err
	}
	switch {
	case tag == timeIndex && c.isNext(unsigned):
		return c.counter()
	case tag == timeUTC && c.isNext(unsigned):
		return c.timestamp()
	case tag == timeLocal && c.isNext(list):
		if err := c.sequence(3, "local time"); err != nil {
			return moment{}, err
		}
		m, err := c.timestamp()
		if err != nil {
			return moment{}, err
		}
		if err := c.pass(); err != nil {
			return moment{}, err
		}
		return m, c.pass()
	default:
		return moment{}, c.pass()
	}
}

// counter reads seconds of a counter.
func (c *cursor) counter() (moment, error) {
	n, err := c.unsigned("time")
	if err != nil {
		return moment{}, err
	}
	return moment{index: strconv.FormatUint(n, 10)}, nil
}

// timestamp reads seconds since 1970, UTC.
func (c *cursor) timestamp() (moment, error) {
	seconds, err := c.unsigned("time")
	if err != nil || seconds == 0 {
		return moment{}, err
	}
	if seconds > 0xffffffff {
		return moment{}, errorf("time of %d seconds", seconds)
	}
	return moment{clock: time.Unix(int64(seconds), 0).UTC()}, nil
}

// structure reads a value that is a structure (SML 1.04, SML_ListType). A time is
// the only one there is: it is returned as RFC 3339, or the seconds of the counter. "" is
// a structure that is not known, or a time that is none.
func (c *cursor) structure() (string, error) {
	from := c.at
	e, err := c.next()
	if err != nil {
		return "", err
	}
	if e.count == 2 && c.isNext(unsigned) {
		tag, err := c.unsigned("type of structure")
		if err != nil {
			return "", err
		}
		if tag == 1 {
			m, err := c.moment()
			if !m.clock.IsZero() {
				return m.clock.Format(time.RFC3339), err
			}
			return m.index, err
		}
	}
	c.at = from
	return "", c.pass()
}
