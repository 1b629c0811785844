package framing

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Append appends to dst the frame that carries payload: Start, the payload escaped, the check, Delimiter or End, and what is
// After (zeros where no check stands there). A Delimiter that the payload ends in already is not added twice, unless
// it is escaped. For kinds Fixed and Length the payload is the whole frame; the length and
// the check are written over what stands there. So is a check that stands within the payload.
//
// It is the inverse of a Scanner: where CanCarry has nothing against payload, the frame scans to
// Data that equals payload. c must have no Problems, else payload is appended as it is.
func (c *Config) Append(dst, payload []byte) []byte {
	if len(c.Problems()) > 0 {
		return append(dst, payload...)
	}
	term := c.term()
	n := len(dst)
	if len(term) == 0 {
		return c.appendPlain(dst, payload)
	}
	if c.Kind == Delimiter && c.Escape.Mode == None {
		payload = bytes.TrimSuffix(payload, term)
	}
	if c.Escape.Mode == None {
		dst, _ = c.appendTerm(dst, payload)
		return dst
	}
	plain, content := c.appendTerm(nil, payload)
	f := finder{mode: c.Escape.Mode, with: c.Escape.With, term: term, start: c.Start}
	dst = append(dst[:n], c.Start...)
	dst = f.escape(dst, plain[len(c.Start):content])
	return append(dst, plain[content:]...)
}

// appendPlain is Append for the kinds that nothing ends.
func (c *Config) appendPlain(dst, payload []byte) []byte {
	n := len(dst)
	if c.Kind != Silence {
		dst = append(dst, payload...)
		frame := dst[n:]
		if c.Kind == Length && len(frame) >= c.Offset+c.Width {
			putNumber(frame[c.Offset:c.Offset+c.Width], uint64(int64(len(frame)-c.Adjust)), c.Little)
		}
		c.seal(frame)
		return dst
	}
	dst = c.appendContent(dst, payload, 0)
	c.seal(dst[n:])
	return dst
}

// appendTerm appends the frame before escaping, and returns where its content ends, from where it begins.
func (c *Config) appendTerm(dst, payload []byte) ([]byte, int) {
	n := len(dst)
	term := c.term()
	behind := c.After
	if sep := len(c.AfterDelimiter); sep > 0 {
		behind = sep
		if k := c.Check; k != nil && k.At < 0 && -k.At <= c.After {
			behind = max(sep, -k.At)
		}
	}
	dst = append(dst, c.Start...)
	dst = c.appendContent(dst, payload, len(term)+behind)
	content := len(dst) - n
	dst = append(dst, term...)
	for range behind - len(c.AfterDelimiter) {
		dst = append(dst, 0)
	}
	dst = append(dst, c.AfterDelimiter...)
	c.seal(dst[n:])
	return dst, content
}

// appendContent appends payload, and makes room for the check where it stands at an edge. behind is
// how many bytes will follow.
func (c *Config) appendContent(dst, payload []byte, behind int) []byte {
	k := c.Check
	if k == nil {
		return append(dst, payload...)
	}
	room := len(k.Mark) + k.size()
	hole := func() {
		for range room {
			dst = append(dst, 0)
		}
	}
	if k.At >= 0 && k.At-len(k.Mark) == len(c.Start) {
		hole()
	}
	dst = append(dst, payload...)
	if k.At < 0 && -k.At == behind+k.size() {
		hole()
	}
	return dst
}

// seal writes the check into a frame before escaping.
func (c *Config) seal(plain []byte) {
	k := c.Check
	if k == nil {
		return
	}
	p, ok := k.in(len(plain))
	if !ok {
		return
	}
	copy(plain[p.mark:p.at], k.Mark)
	var low []byte
	k.write(plain[p.at:p.after], k.sum(plain[p.from:p.to], &low))
}

// CanCarry returns an error that says why no frame carries payload: it is too long, or it holds what
// would end the frame, and nothing escapes it. An empty payload has no frame of kind Delimiter that a Scanner
// would return, but can be sent.
func (c *Config) CanCarry(payload []byte) error {
	if p := c.Problems(); len(p) > 0 {
		return fmt.Errorf("%s %s", p[0].Key, p[0].What)
	}
	frame := c.Append(nil, payload)
	switch {
	case len(frame) > c.max():
		return fmt.Errorf("the frame has %d bytes, more than %d", len(frame), c.max())
	case len(frame) == 0:
		return errors.New("a frame of no bytes cannot be seen")
	}
	switch c.Kind {
	case Fixed, Length:
		return c.canBe(payload, frame)
	case Silence:
		return c.readsBack(payload, frame)
	}
	return c.canHold(payload, frame)
}

// canHold is CanCarry for frames that a sequence ends.
func (c *Config) canHold(payload, frame []byte) error {
	term := c.term()
	if c.Escape.Mode == None {
		if c.Kind == Delimiter {
			payload = bytes.TrimSuffix(payload, term)
		}
		if i := bytes.Index(payload, term); i >= 0 {
			return fmt.Errorf("byte %d of the payload would end the frame (% X), and nothing escapes it", i, term)
		}
		if c.Restart && bytes.Contains(payload, c.Start) {
			return fmt.Errorf("the payload holds what a frame begins with (% X)", c.Start)
		}
	}
	if len(payload) == 0 && c.Kind == Delimiter {
		return nil
	}
	return c.readsBack(payload, frame)
}

// readsBack finds what is left, and rare: the last bytes of the payload, or the check, and what ends the
// frame make up an end that is too early; or the payload is too short for the place of the check.
func (c *Config) readsBack(payload, frame []byte) error {
	s := NewScanner(*c)
	s.Push(frame, time.Time{})
	s.Quiet(time.Time{}.Add(c.Gap))
	if f, ok := s.Next(); !ok || len(f.Raw) != len(frame) || len(f.Data) != len(payload) {
		return errors.New("the frame would be read as another one")
	}
	return nil
}

// canBe is CanCarry for kinds Fixed and Length.
func (c *Config) canBe(payload, frame []byte) error {
	switch {
	case c.Kind == Fixed && len(payload) != c.Size:
		return fmt.Errorf("the frame has %d bytes, not %d", len(payload), c.Size)
	case c.Kind == Length && len(payload) < c.least():
		return fmt.Errorf("the frame has %d bytes, less than %d", len(payload), c.least())
	case c.Kind == Length && int64(len(payload)-c.Adjust) != int64(number(frame[c.Offset:c.Offset+c.Width], c.Little)):
		return fmt.Errorf("a length of %d does not fit its field", len(payload)-c.Adjust)
	case !bytes.HasPrefix(frame, c.Start):
		return fmt.Errorf("the frame does not begin with % X", c.Start)
	case !bytes.HasSuffix(frame, c.End):
		return fmt.Errorf("the frame does not end with % X", c.End)
	}
	return c.readsBack(payload, frame)
}
