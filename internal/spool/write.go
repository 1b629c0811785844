package spool

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// flushBytes bounds the buffer of the writer: so much is written at once.
const flushBytes = 256 << 10

// write is the goroutine that owns the last segment. It ends when the spool is closed.
func (s *Spool) write() {
	defer close(s.ended)
	var cursorDue <-chan time.Time
	for {
		select {
		case r := <-s.append:
			s.commit(s.gather(r))
		case <-s.nudge:
			if cursorDue == nil {
				cursorDue = time.After(s.cfg.CursorEvery)
			}
		case <-cursorDue:
			cursorDue = nil
			s.state.Lock()
			_ = s.saveCursor() // Close, or the next Ack that removes a segment, tells
			s.state.Unlock()
		case <-s.closed:
			s.refuseRest()
			return
		}
	}
}

// refuseRest answers the Appends that came too late.
func (s *Spool) refuseRest() {
	for {
		select {
		case r := <-s.append:
			r.err = ErrClosed
			close(r.done)
		default:
			return
		}
	}
}

// gather waits for company for r, up to the bounds of a group.
func (s *Spool) gather(r *request) []*request {
	group, records := []*request{r}, len(r.records)
	if s.cfg.CommitWindow < 0 {
		return group
	}
	window := time.NewTimer(s.cfg.CommitWindow)
	defer window.Stop()
	for records < s.cfg.CommitRecords {
		select {
		case r := <-s.append:
			group = append(group, r)
			records += len(r.records)
		case <-window.C:
			return group
		case <-s.closed:
			return group
		}
	}
	return group
}

// commit writes and syncs a group, and answers it. Requests whose records were
// synced before a failure, in an earlier segment, are answered with success.
func (s *Spool) commit(group []*request) {
	b := &batch{spool: s, sums: newChecksums(s.id), next: s.next}
	err := b.addAll(group)
	if err == nil {
		err = b.sync()
	}
	if err != nil {
		err = errors.Join(err, s.undo())
	}
	for _, r := range group {
		if r.last == 0 || r.last >= s.next { // only this goroutine changes next
			r.err = err
		}
		close(r.done)
	}
}

// batch is a group on its way to disk.
type batch struct {
	spool *Spool
	sums  checksums
	buf   []byte
	next  uint64 // number of the next record to add
	size  int64  // of the active segment, with what is written and not yet synced
}

// addAll adds the records of a group, and sets last of each request that is whole.
func (b *batch) addAll(group []*request) error {
	for _, r := range group {
		for i := range r.records {
			if err := b.add(&r.records[i]); err != nil {
				return err
			}
		}
		r.last = b.next - 1
	}
	return nil
}

// add writes one record, in the buffer or further, and rolls to a new segment
// when the last is full.
func (b *batch) add(r *Record) error {
	s := b.spool
	size := recordSize(r)
	if s.active != nil && b.size == 0 {
		b.size = s.segments[len(s.segments)-1].size
	}
	if s.active == nil || b.size+int64(len(b.buf))+size > s.cfg.SegmentBytes {
		if err := b.roll(); err != nil {
			return err
		}
	}
	if err := s.makeRoom(b.size + int64(len(b.buf)) + size); err != nil {
		return err
	}
	numbered := Record{Number: b.next, Key: r.Key, Data: r.Data}
	b.buf = b.sums.appendRecord(b.buf, &numbered)
	b.next++
	if len(b.buf) >= flushBytes {
		return b.flush()
	}
	return nil
}

func (b *batch) flush() error {
	if len(b.buf) == 0 {
		return nil
	}
	err := b.spool.disk.write(b.spool.active, b.buf, b.size)
	if err == nil {
		b.size += int64(len(b.buf))
		b.buf = b.buf[:0]
	}
	return err
}

// sync makes durable what was added, and shows it to readers.
func (b *batch) sync() error {
	s := b.spool
	if s.active == nil {
		return nil
	}
	if err := b.flush(); err != nil {
		return err
	}
	if err := s.disk.sync(s.active); err != nil {
		// The kernel may have dropped the pages and forgotten the failure: a
		// second sync would lie. This segment gets no more records.
		_ = s.active.Truncate(s.segments[len(s.segments)-1].size)
		s.abandon()
		return err
	}
	s.mu.Lock()
	s.segments[len(s.segments)-1].size = b.size
	s.next = b.next
	s.mu.Unlock()
	return nil
}

// roll ends the last segment and begins a new one.
func (b *batch) roll() error {
	if err := b.sync(); err != nil {
		return err
	}
	s := b.spool
	if s.active != nil {
		s.abandon()
	}
	if err := s.makeRoom(segmentHead); err != nil {
		return err
	}
	path := segmentPath(s.cfg.Dir, b.next)
	f, err := s.disk.create(path)
	if err != nil {
		return err
	}
	err = s.disk.write(f, segmentHeader(s.id, b.next), 0)
	if err == nil {
		err = s.disk.sync(f)
	}
	if err == nil {
		err = syncDir(s.cfg.Dir)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return err
	}
	s.active = f
	b.size = segmentHead
	s.mu.Lock()
	s.segments = append(s.segments, segment{path: path, first: b.next, size: segmentHead})
	s.mu.Unlock()
	return nil
}

// abandon closes the last segment for writing. One without records is removed:
// the next segment gets its name.
func (s *Spool) abandon() {
	_ = s.active.Close()
	s.active = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.segments) - 1
	if s.segments[n].first == s.next {
		_ = os.Remove(s.segments[n].path)
		s.segments = s.segments[:n:n]
	}
}

// undo takes back what a failed group wrote and did not sync.
func (s *Spool) undo() error {
	if s.active == nil {
		return nil
	}
	if err := s.active.Truncate(s.segments[len(s.segments)-1].size); err != nil {
		s.abandon()
		return fmt.Errorf("take back a failed write: %w", err)
	}
	return nil
}

// makeRoom keeps the byte bound when the last segment grows to size: it drops the oldest
// segments and counts what is lost with them.
func (s *Spool) makeRoom(size int64) error {
	for {
		s.mu.Lock()
		total := size
		n := len(s.segments)
		for i := range s.segments {
			if i < n-1 || s.active == nil {
				total += s.segments[i].size
			}
		}
		full := total > s.cfg.MaxBytes && n > 0 && (n > 1 || s.active == nil)
		s.mu.Unlock()
		if !full {
			return nil
		}
		if err := s.dropOldest(); err != nil {
			return err
		}
	}
}

// dropOldest removes the first segment. The loss is on disk before it happens,
// and says up to which record, so a crash in between neither hides it nor counts it twice.
func (s *Spool) dropOldest() error {
	s.state.Lock()
	defer s.state.Unlock()
	s.mu.Lock()
	oldest, acked, lost := s.segments[0], s.acked, s.lost.copy()
	end := s.next
	if len(s.segments) > 1 {
		end = s.segments[1].first
	}
	s.mu.Unlock()
	if end-1 <= acked {
		return s.saveAcked(1)
	}
	if err := s.countDropped(oldest, max(acked+1, oldest.first), end, &lost); err != nil {
		return err
	}
	lost.Through = end - 1
	if err := writeState(s.cfg.Dir, lostFile, s.id, lost); err != nil {
		return err
	}
	s.mu.Lock()
	s.lost = lost
	s.acked = max(s.acked, end-1)
	s.mu.Unlock()
	s.removeFirst(1)
	return nil
}

// countDropped adds the records from low to below high of a segment to lost.
func (s *Spool) countDropped(seg segment, low, high uint64, lost *losses) error {
	if low >= high {
		return nil
	}
	data, err := os.ReadFile(seg.path)
	if err != nil {
		lost.damage(low, high)
		return nil //nolint:nilerr // what cannot be read is lost to damage
	}
	sums := newChecksums(s.id)
	expected := seg.first
	if len(data) > segmentHead {
		sums.scan(data[segmentHead:min(int64(len(data)), seg.size)], seg.first, high, func(r Record, _ int) bool {
			lost.damage(max(expected, low), r.Number)
			expected = r.Number + 1
			if r.Number >= low {
				lost.add(r.Key)
			}
			return true
		})
	}
	lost.damage(max(expected, low), high)
	return nil
}
