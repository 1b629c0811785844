package spool

import (
	"errors"
	"fmt"
	"os"
)

// recover reads what is in the directory and makes it whole.
func (s *Spool) recover() error {
	segments, err := listSegments(s.cfg.Dir)
	if err != nil {
		return err
	}
	if s.id, err = loadIdentity(s.cfg.Dir, segments); err != nil {
		return err
	}
	var cur cursor
	if err := s.load(cursorFile, &cur); err != nil {
		return err
	}
	if err := s.load(lostFile, &s.lost); err != nil {
		return err
	}
	s.lost = s.lost.copy()
	s.saved = cur.Acked
	s.segments = segments
	s.acked = max(cur.Acked, s.lost.Through)
	s.next = s.acked + 1
	if len(segments) == 0 {
		return nil
	}
	if err := s.mendLast(); err != nil {
		return err
	}
	s.removeFirst(s.ackedSegments())
	return s.countMissing()
}

// load reads a state file. A damaged one is as good as none: records are
// read again, or counts begin at zero, and a note says so.
func (s *Spool) load(name string, content any) error {
	err := readState(s.cfg.Dir, name, s.id, content)
	if errors.Is(err, errState) {
		s.note("%v; it is taken as empty", err)
		return nil
	}
	return err
}

func (s *Spool) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// mendLast cuts off what follows the last whole record, which a crash during a
// write leaves, and opens the last segment for more. Records after damage are
// kept: they may have been acknowledged.
func (s *Spool) mendLast() error {
	last := &s.segments[len(s.segments)-1]
	data, err := os.ReadFile(last.path)
	if err != nil {
		return err
	}
	next := last.first
	end := int64(segmentHead)
	if len(data) > segmentHead {
		end += int64(newChecksums(s.id).scan(data[segmentHead:], last.first, ^uint64(0), func(r Record, _ int) bool {
			next = r.Number + 1
			return true
		}))
	}
	f, err := os.OpenFile(last.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s.active = f
	if int64(len(data)) < end { // the head itself is torn
		if err := s.disk.write(f, segmentHeader(s.id, last.first), 0); err != nil {
			return err
		}
	}
	if s.cut = int64(len(data)) - end; s.cut > 0 {
		s.note("%s: cut off %d bytes after record %d", last.path, s.cut, next-1)
		if err := f.Truncate(end); err != nil {
			return err
		}
	}
	last.size = end
	if next < s.next { // what is acknowledged is gone from the log: its numbers are not used again
		s.active = nil
		return f.Close()
	}
	s.next = next
	return s.disk.sync(f)
}

// countMissing counts the records before the first segment that nobody
// acknowledged: someone removed a file.
func (s *Spool) countMissing() error {
	first := s.segments[0].first
	if first <= s.acked+1 {
		return nil
	}
	s.note("records %d to %d are missing", s.acked+1, first-1)
	s.lost.damage(s.acked+1, first)
	s.acked = first - 1
	s.next = max(s.next, first)
	s.lost.Through = s.acked
	return writeState(s.cfg.Dir, lostFile, s.id, s.lost)
}
