package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// readAhead is what a Read takes from disk at least, in bytes.
const readAhead = 64 << 10

// hint is where a record begins, so that reading on needs no search.
type hint struct {
	first  uint64 // of the segment
	number uint64
	offset int64
}

// Read returns records in order, beginning with the one numbered from or the first after it
// that is left: at most maxRecords, and at most maxBytes of data, but one
// record in any case if there is one. No records means that from is beyond the
// last. Damaged records are stepped over and counted. Acknowledged records may or may not be
// there. Reading deletes nothing.
func (s *Spool) Read(from uint64, maxRecords, maxBytes int) ([]Record, error) {
	r := reader{spool: s, expected: max(from, 1), maxRecords: max(maxRecords, 1), maxBytes: max(maxBytes, 1)}
	for range 3 { // segments that go while they are read are given up; there are others
		retry, err := r.run()
		if err != nil {
			return nil, fmt.Errorf("read spool %s from record %d: %w", s.cfg.Dir, from, err)
		}
		if !retry || len(r.records) > 0 {
			return r.records, nil
		}
	}
	// No records would mean that none are left.
	return nil, fmt.Errorf("read spool %s from record %d: segments are dropped faster than they can be read", s.cfg.Dir, from)
}

type reader struct {
	spool      *Spool
	records    []Record
	bytes      int
	expected   uint64 // the next number
	maxRecords int
	maxBytes   int
	full       bool
	place      hint
}

// run reads through the segments. retry means that one was removed meanwhile.
func (r *reader) run() (retry bool, err error) {
	s := r.spool
	s.mu.Lock()
	segments := append([]segment(nil), s.segments...)
	next := s.next
	r.place = s.hint
	s.mu.Unlock()
	for i := range segments {
		high := next
		if i+1 < len(segments) {
			high = segments[i+1].first
		}
		if high <= r.expected {
			continue
		}
		r.missing(segments[i].first)
		err := r.segment(segments[i], high)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !s.has(segments[i]):
			return true, nil
		case errors.Is(err, fs.ErrNotExist): // somebody removed the file: what it held is damage
			err = nil
		}
		if err != nil || r.full {
			return false, err
		}
		r.missing(high)
	}
	return false, nil
}

// has reports whether seg is still part of the spool.
func (s *Spool) has(seg segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.segments, func(o segment) bool { return o.path == seg.path })
}

// missing counts the records before number that were expected.
func (r *reader) missing(number uint64) {
	if number <= r.expected {
		return
	}
	r.spool.countDamage(r.expected, number)
	r.expected = number
}

// countDamage counts records that cannot be read and were not acknowledged.
func (s *Spool) countDamage(low, high uint64) {
	s.state.Lock()
	defer s.state.Unlock()
	s.mu.Lock()
	counted := s.lost.damage(max(low, s.acked+1), high)
	lost := s.lost.copy()
	s.mu.Unlock()
	if counted {
		// If it fails, the count is right until the next start, which counts it again.
		_ = writeState(s.cfg.Dir, lostFile, s.id, lost)
	}
}

// segment reads the records of one segment with numbers below high.
func (r *reader) segment(seg segment, high uint64) error {
	f, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer f.Close()
	offset, low := int64(segmentHead), seg.first
	if r.place.first == seg.first && r.place.number <= r.expected && r.place.offset <= seg.size {
		offset, low = r.place.offset, r.place.number
	}
	window := int64(max(readAhead, r.maxBytes-r.bytes))
	for offset < seg.size && !r.full {
		b := make([]byte, min(window, seg.size-offset))
		if n, err := f.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else if n < len(b) { // the file is shorter than it was: the rest is damage
			return nil
		}
		whole := offset+int64(len(b)) == seg.size
		end, next := r.take(b, low, high, whole)
		if end == 0 && whole {
			return nil
		}
		if end == 0 { // a record larger than the window, or damage: look at all that is left
			window = seg.size - offset
			continue
		}
		offset, low = offset+int64(end), next
		r.remember(hint{first: seg.first, number: low, offset: offset})
	}
	return nil
}

// take takes the records in b, a part of a segment, that follow each other; when b
// is the whole rest of the segment, also those behind damage. It returns the offset
// behind the last one taken or passed, and the number after it.
func (r *reader) take(b []byte, low, high uint64, whole bool) (end int, next uint64) {
	next = low
	newChecksums(r.spool.id).scan(b, low, high, func(rec Record, behind int) bool {
		if !whole && behind-int(recordSize(&rec)) != end {
			return false
		}
		if rec.Number >= r.expected {
			if len(r.records) > 0 && (len(r.records) >= r.maxRecords || r.bytes+len(rec.Data) > r.maxBytes) {
				r.full = true
				return false
			}
			r.missing(rec.Number)
			r.records = append(r.records, rec)
			r.bytes += len(rec.Data)
			r.expected = rec.Number + 1
		}
		end, next = behind, rec.Number+1
		return true
	})
	return end, next
}

func (r *reader) remember(h hint) {
	r.spool.mu.Lock()
	r.spool.hint = h
	r.spool.mu.Unlock()
}
