package framing

import "bytes"

// act is what a step makes of the bytes at head.
type act uint8

const (
	wait     act = iota // more bytes are needed
	noise               // n bytes are no frame
	whole               // n bytes are a frame, if its check is right
	cut                 // n bytes began a frame, and a new one begins behind them
	damaged             // it cannot become a frame; n bytes were looked at
	oversize            // it says that it is longer than Max
)

// verdict is the outcome of a step.
type verdict struct {
	act  act
	n    int
	term int // where what ends the frame is, for whole
}

// view is what a step may look at: never more than Max bytes, so that it does not matter
// in which lumps they came.
type view struct {
	w      []byte
	full   bool // Max bytes are here
	closed bool // w is all there will be: a gap is behind it
	over   bool // there is more than Max before the gap
}

func (s *Scanner) view() view {
	v := view{w: s.buf[s.head:]}
	if g := s.gaps.live(); len(g) > 0 {
		v.w, v.closed = s.buf[s.head:int(g[0]-s.base)], true
	}
	v.full, v.over = len(v.w) >= s.max, len(v.w) > s.max
	if v.over {
		v.w, v.closed = v.w[:s.max], false
	}
	return v
}

// Next returns the next whole frame whose check is right; false: there is none until the
// next Push or Quiet. It looks at each byte a bounded number of times, see workPerByte.
func (s *Scanner) Next() (Frame, bool) {
	if !s.usable {
		return Frame{}, false
	}
	for {
		v := s.view()
		if len(v.w) == 0 {
			if !v.closed {
				return Frame{}, false
			}
			s.gaps.pop()
			s.discard, s.searched = false, 0
			continue
		}
		d := s.step(v)
		switch d.act {
		case wait:
			switch {
			case v.full && s.c.Kind != Silence:
				s.overflow(v.w)
			case v.closed:
				s.giveUp(v.w)
			default:
				return Frame{}, false
			}
		case noise:
			s.skip(d.n)
		case cut:
			s.counters.Damaged++
			s.credit -= d.n
			s.skip(d.n)
		case oversize:
			s.blame(&s.counters.Oversize)
			s.fail(0)
		case damaged:
			s.damage(d.n)
		case whole:
			if f, end := s.take(v, d); end {
				return f, f.Raw != nil
			}
		}
	}
}

// step looks at the bytes at head, but for the check.
func (s *Scanner) step(v view) verdict {
	w := v.w
	switch {
	case s.c.Kind == Silence:
		return s.stepSilence(v)
	case s.discard:
		return s.stepDiscard(w)
	}
	if start := s.c.Start; !bytes.HasPrefix(w, start) {
		if bytes.HasPrefix(start, w) {
			return verdict{}
		}
		if i := bytes.Index(w[1:], start); i >= 0 {
			return verdict{act: noise, n: i + 1}
		}
		return verdict{act: noise, n: len(w) - overlap(w[1:], start)}
	}
	switch s.c.Kind {
	case Fixed:
		return s.stepSized(w, s.c.Size)
	case Length:
		if len(w) < s.c.Offset+s.c.Width {
			return verdict{}
		}
		total := int64(number(w[s.c.Offset:s.c.Offset+s.c.Width], s.c.Little)) + int64(s.c.Adjust)
		switch {
		case total < int64(s.c.least()):
			return verdict{act: damaged}
		case total > int64(s.max):
			return verdict{act: oversize}
		}
		return s.stepSized(w, int(total))
	default:
		return s.stepTerm(w)
	}
}

// overlap returns how many bytes at the end of w may be the beginning of seq.
func overlap(w, seq []byte) int {
	n := min(len(w), len(seq)-1)
	for n > 0 && !bytes.Equal(w[len(w)-n:], seq[:n]) {
		n--
	}
	return n
}

func (s *Scanner) stepSized(w []byte, size int) verdict {
	switch {
	case len(w) < size:
		return verdict{}
	case !bytes.HasSuffix(w[:size], s.c.End):
		return verdict{act: damaged, n: size}
	}
	return verdict{act: whole, n: size, term: size}
}

func (s *Scanner) stepSilence(v view) verdict {
	switch n := len(v.w); {
	case s.discard:
		return verdict{act: noise, n: n}
	case v.over:
		s.discard = true
		return verdict{act: oversize}
	case v.closed:
		return verdict{act: whole, n: n, term: n}
	default:
		return verdict{}
	}
}

func (s *Scanner) stepTerm(w []byte) verdict {
	begin := len(s.c.Start)
	at, what := s.finder.find(w, max(begin, s.searched))
	s.searched = at
	switch what {
	case unfinished:
		return verdict{}
	case begun:
		return verdict{act: cut, n: at}
	case broken:
		return verdict{act: damaged, n: at + len(s.c.Escape.With)}
	}
	n, end := s.tail(w, at+len(s.finder.term))
	if end != whole {
		return verdict{act: end, n: n}
	}
	if s.c.Restart {
		if i := bytes.LastIndex(w[begin:at], s.c.Start); i >= 0 {
			return verdict{act: cut, n: begin + i}
		}
	}
	return verdict{act: whole, n: n, term: at}
}

// tail returns where a frame ends whose term ends at a place.
func (s *Scanner) tail(w []byte, at int) (int, act) {
	if sep := s.c.AfterDelimiter; len(sep) > 0 {
		rest := w[at:min(len(w), at+s.c.After)]
		if i := bytes.Index(rest, sep); i >= 0 {
			return at + i + len(sep), whole
		}
		if len(rest) == s.c.After {
			return at, damaged
		}
		return 0, wait
	}
	if len(w) < at+s.c.After {
		return 0, wait
	}
	return at + s.c.After, whole
}

// stepDiscard goes past the end of a frame too long.
func (s *Scanner) stepDiscard(w []byte) verdict {
	at, what := s.finder.find(w, 0)
	switch what {
	case found:
		n := at + len(s.finder.term) + s.c.After
		if len(w) < n && at == 0 {
			return verdict{}
		}
		if len(w) >= n {
			s.discard = false
			return verdict{act: noise, n: n}
		}
	case broken, begun: // an escape sequence and what it does not go with
		at += len(s.c.Escape.With)
	}
	if at == 0 {
		return verdict{}
	}
	return verdict{act: noise, n: at}
}

// resyncs tells whether frames end with a sequence and begin with none, so that what follows
// a bad one begins behind the next such sequence.
func (s *Scanner) resyncs() bool { return len(s.finder.term) > 0 && len(s.c.Start) == 0 }

// overflow deals with Max bytes that are no whole frame.
func (s *Scanner) overflow(w []byte) {
	s.blame(&s.counters.Oversize)
	switch {
	case s.resyncs():
		s.discard = true
		s.skip(max(s.searched, 1))
	case s.finder.mode == Prefix || s.finder.mode == Double: // it has to be searched again
		s.fail(len(w))
	default:
		s.fail(0)
	}
}

// giveUp deals with bytes before a gap that are no whole frame.
func (s *Scanner) giveUp(w []byte) {
	switch {
	case s.resyncs(), s.discard, len(s.c.Start) == 0 && s.c.Check == nil, len(w) < len(s.c.Start):
		s.skip(len(w))
	case s.finder.mode == Prefix || s.finder.mode == Double:
		s.fail(len(w))
	default:
		s.fail(0)
	}
}

// damage deals with what is no frame after n bytes were looked at.
func (s *Scanner) damage(n int) {
	s.blame(&s.counters.Damaged)
	switch {
	case s.c.Kind == Silence:
		s.skip(n)
	case s.resyncs():
		s.discard = true
		s.skip(n)
	default:
		s.fail(n)
	}
}

// take opens the frame that a step found. False: go on.
func (s *Scanner) take(v view, d verdict) (Frame, bool) {
	if s.c.Kind == Delimiter && d.term == len(s.c.Start) {
		s.advance(d.n) // empty
		return Frame{}, false
	}
	data, ok := s.open(v.w[:d.n], d.term)
	for i := 1; !ok && i <= s.near; i++ {
		at := d.term + i
		end := at + len(s.finder.term) + s.c.After
		if end > len(v.w) {
			if !v.full && !v.closed {
				return Frame{}, true // the right end may be to come
			}
			break
		}
		if bytes.HasPrefix(v.w[at:], s.finder.term) {
			if data, ok = s.open(v.w[:end], at); ok {
				d.n = end
			}
		}
	}
	switch {
	case !ok && s.resyncs():
		s.blame(&s.counters.Damaged)
		s.skip(d.n) // behind its end
		return Frame{}, false
	case !ok:
		s.damage(d.n)
		return Frame{}, false
	}
	f := s.frame(data, v.w[:d.n:d.n])
	s.lost = false
	s.counters.Frames++
	s.advance(d.n)
	return f, true
}

func (s *Scanner) frame(data, raw []byte) Frame {
	start := s.base + uint64(s.head)
	return Frame{
		Data: data[:len(data):len(data)], Raw: raw, Start: start,
		Began: s.arrival(start), At: s.arrival(start + uint64(len(raw)) - 1),
	}
}

// open checks a raw frame and returns its data. What ends it is at term.
func (s *Scanner) open(raw []byte, term int) ([]byte, bool) {
	plain, from, to := raw, 0, len(raw)
	mine := len(s.plain)
	if s.c.Kind != Fixed && s.c.Kind != Length {
		from, to = len(s.c.Start), term
	}
	if s.c.Escape.Mode != None {
		var ok bool
		s.plain = append(s.plain, raw[:from]...)
		s.plain, ok = s.finder.unescape(s.plain, raw[from:to])
		if !ok {
			s.plain = s.plain[:mine]
			return nil, false
		}
		end := len(s.plain) - mine
		s.plain = append(s.plain, raw[to:]...)
		plain, to = s.plain[mine:], end
	}
	if k := s.c.Check; k != nil {
		p, ok := k.in(len(plain))
		if !ok || !k.right(plain, p, &s.low) {
			s.plain = s.plain[:mine]
			return nil, false
		}
		if s.c.Kind != Fixed && s.c.Kind != Length {
			from, to = p.trim(from, to)
		}
	}
	return plain[from:to], true
}

// trim takes the check off the content from, to where it stands at an edge of it.
func (p place) trim(from, to int) (int, int) {
	switch {
	case p.mark < from || p.after > to: // not within
	case p.after == to:
		to = p.mark
	case p.mark == from:
		from = p.after
	}
	return from, to
}
