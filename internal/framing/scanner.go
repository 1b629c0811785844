package framing

import (
	"sort"
	"time"
)

// Frame is one frame of the line. Its slices are valid until the next Push.
type Frame struct {
	// Data is what the frame carries: unescaped, without Start, Delimiter, End and what is After, and without the check
	// where that is at an edge. For kinds Fixed and Length it is the whole frame.
	Data []byte
	// Raw is the frame as it came, all included.
	Raw []byte
	// Start is the position of its first byte in the stream; see Scanner.Position.
	Start uint64
	// Began and At are when its first and its last byte came.
	Began, At time.Time
}

// Counters count since NewScanner.
type Counters struct {
	Frames uint64 // that Next returned
	// Damaged are those that began and had a wrong check, a wrong End, an impossible escape or length, or
	// were cut off by the Start of the next. Where frames have no Start they count once until the next good one.
	Damaged  uint64
	Oversize uint64 // longer than Config.Max; counted as Damaged is
	// Skipped are bytes that were part of no frame, also of damaged ones. Empty frames are not counted.
	Skipped uint64
}

// workPerByte bounds the work that failed frames cost: for every byte of the stream so many
// may be looked at again. A one-byte Start in noise costs 16 at DefaultMax.
const workPerByte = 256

// Scanner finds frames. It is not safe for concurrent use. It keeps at most Config.Max bytes and
// what the last Push brought; its buffers may be twice as large, and for every byte that
// came in a Push of its own there are 32 bytes for its time.
type Scanner struct {
	c      Config
	max    int
	usable bool
	finder finder
	// near is how far behind a wrong end the right one may be: the check may hold the sequence.
	near int

	buf  []byte
	head int    // of buf: what is before it is dealt with
	base uint64 // the position of buf[0] in the stream
	// marks are when bytes came, gaps the positions that no frame goes across.
	marks queue[mark]
	gaps  queue[uint64]
	heard bool
	last  time.Time

	// searched is where the search for the end goes on, from head.
	searched int
	discard  bool // until the end of a frame too long
	lost     bool // a failure was counted, and no good frame came since
	credit   int  // see workPerByte

	plain    []byte // unescaped frames since the last Push
	low      []byte // scratch
	counters Counters
}

// NewScanner returns a scanner at position 0. Where c has Problems it finds no frames.
func NewScanner(c Config) *Scanner {
	s := &Scanner{c: c, usable: len(c.Problems()) == 0}
	if !s.usable {
		return s
	}
	s.max = c.max()
	s.credit = workPerByte * s.max
	s.finder = finder{mode: c.Escape.Mode, with: c.Escape.With, term: c.term(), start: c.Start}
	s.buf = make([]byte, 0, min(2*s.max, DefaultMax))
	if k := c.Check; k != nil && k.Encoding == Binary && len(c.term()) > 0 && c.Escape.Mode == None && len(c.AfterDelimiter) == 0 && k.At < 0 && -k.At > c.After {
		s.near = k.size() + len(k.Mark) + len(c.term()) - 1
	}
	return s
}

// Push takes bytes that came at a time. Call Next until it has no more afterwards:
// where more than Config.Max bytes are left unread by then, the frames in them are lost (and
// their bytes Skipped). Times must not run backwards; gaps are not seen where they do.
func (s *Scanner) Push(b []byte, at time.Time) {
	if len(b) == 0 {
		return
	}
	if !s.usable {
		s.base += uint64(len(b))
		s.counters.Skipped += uint64(len(b))
		return
	}
	for len(s.buf)-s.head > s.max {
		f, ok := s.Next()
		if !ok {
			break
		}
		s.counters.Frames--
		s.counters.Skipped += uint64(len(f.Raw))
	}
	s.Quiet(at)
	switch left := len(s.buf) - s.head; {
	case left == 0, s.head > left:
		s.base += uint64(s.head)
		s.buf, s.head = s.buf[:copy(s.buf, s.buf[s.head:])], 0
	}
	s.plain = s.plain[:0]
	s.buf = append(s.buf, b...)
	if m := s.marks.live(); len(m) > 0 && m[len(m)-1].at.Equal(at) {
		m[len(m)-1].end = s.Position()
	} else {
		s.marks.push(mark{end: s.Position(), at: at})
	}
	s.heard, s.last = true, at
}

// Quiet tells that nothing came from the last Push until now. Call Next afterwards. A Push
// tells it as well, so a late Quiet changes no frame, it only delays.
func (s *Scanner) Quiet(now time.Time) {
	if s.c.Gap <= 0 || !s.heard || now.Sub(s.last) < s.c.Gap {
		return
	}
	here := s.Position()
	if g := s.gaps.live(); s.pending() && (len(g) == 0 || g[len(g)-1] != here) {
		s.gaps.push(here)
	}
	s.heard = false
}

// Deadline returns when Quiet is to be called next; false: not before the next Push.
func (s *Scanner) Deadline() (time.Time, bool) {
	if s.c.Gap <= 0 || !s.heard || !s.pending() {
		return time.Time{}, false
	}
	return s.last.Add(s.c.Gap), true
}

// pending tells whether bytes, or the rest of a frame too long, are still open.
func (s *Scanner) pending() bool { return s.head < len(s.buf) || s.discard }

// Reset forgets what is pending, as after the line was opened anew. The position goes on.
func (s *Scanner) Reset() {
	s.counters.Skipped += uint64(len(s.buf) - s.head)
	s.head = len(s.buf)
	s.marks.clear()
	s.gaps.clear()
	s.heard, s.discard, s.lost, s.searched = false, false, false, 0
	s.credit = workPerByte * s.max
}

// Position returns how many bytes were pushed since NewScanner.
func (s *Scanner) Position() uint64 { return s.base + uint64(len(s.buf)) }

// Counters returns what was counted so far.
func (s *Scanner) Counters() Counters { return s.counters }

// advance goes past n bytes.
func (s *Scanner) advance(n int) {
	s.head += n
	s.credit = min(s.credit+n*workPerByte, workPerByte*s.max)
	if s.finder.mode == None || s.finder.mode == SLIP || s.finder.mode == HDLC {
		s.searched = max(s.searched-n, 0) // no end is there, wherever a frame begins
	} else {
		s.searched = 0
	}
	here := s.base + uint64(s.head)
	for s.marks.len() > 0 && s.marks.live()[0].end <= here {
		s.marks.pop()
	}
}

func (s *Scanner) skip(n int) {
	s.counters.Skipped += uint64(n)
	s.advance(n)
}

// fail goes past what was no frame after all: by one byte, so that a frame within it is
// found, or by all n that were looked at, where too much work has been done in vain.
func (s *Scanner) fail(n int) {
	if s.credit -= n; s.credit >= 0 {
		n = 1
	}
	s.skip(n)
}

// blame counts a failure.
func (s *Scanner) blame(counter *uint64) {
	if len(s.c.Start) == 0 && len(s.finder.term) == 0 && s.c.Kind != Silence {
		if s.lost {
			return
		}
		s.lost = true
	}
	*counter++
}

// arrival returns when the byte at a position came; it must be pending.
func (s *Scanner) arrival(pos uint64) time.Time {
	m := s.marks.live()
	if m[0].end > pos {
		return m[0].at
	}
	return m[sort.Search(len(m), func(i int) bool { return m[i].end > pos })].at
}
