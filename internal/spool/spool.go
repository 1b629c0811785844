// Package spool keeps records on disk until they are acknowledged: a segment log
// with checksums, group commit, a strict byte bound whose losses are counted, and
// recovery that keeps every record that is whole. DESIGN.md says why, FORMAT.md
// specifies the bytes.
package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Defaults of a Config, and the bounds that are not configured.
const (
	DefaultMaxBytes      = 1 << 30
	DefaultSegmentBytes  = 8 << 20
	DefaultCommitRecords = 1024
	DefaultCommitWindow  = 5 * time.Millisecond
	DefaultCursorEvery   = time.Second

	// MaxKey bounds a record's key, in bytes: a DeviceID has 317 at most.
	MaxKey = 320
	// MaxLostKeys bounds the keys that losses are counted for, and so the file lost;
	// the losses of further keys are counted together, under the key "".
	MaxLostKeys = 16384
	// MinSegments is the least MaxBytes, in segments: one is written while another is dropped.
	MinSegments = 2

	maxWaiting = 64 // Appends that wait for a commit; more block
)

// Errors for decisions.
var (
	// ErrLocked is returned by Open while another process has the directory.
	ErrLocked = errors.New("in use by another process")
	// ErrTooLarge is returned by Append for a record that no segment can hold.
	ErrTooLarge = errors.New("record too large")
	// ErrClosed is returned by calls after Close.
	ErrClosed = errors.New("spool is closed")
)

// IsFull reports whether err says that the disk, or the quota on it, is full.
// The Append that failed may be tried again as it is.
func IsFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Config says where a spool is and what it may take.
type Config struct {
	// Dir holds the spool and nothing else that ends in .seg. It is made if
	// need be, readable by its owner only.
	Dir string
	// MaxBytes bounds all segments together; zero means DefaultMaxBytes. Beside
	// them are a few small files; see FORMAT.md. At least MinSegments segments.
	MaxBytes int64
	// SegmentBytes bounds one segment, and with it a record, what is lost at
	// once when the bound is hit, and the memory that a Read takes; zero means DefaultSegmentBytes.
	SegmentBytes int64
	// CommitRecords and CommitWindow bound a group commit: Appends wait up
	// to the window for company, or until there are so many records. A
	// longer window spares flash memory. Zero means the default, a negative window none.
	CommitRecords int
	CommitWindow  time.Duration
	// CursorEvery is how often acknowledgements are written to disk at most;
	// after a crash those since are forgotten, and records are read again. Zero means the default.
	CursorEvery time.Duration
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxBytes, DefaultMaxBytes)
	setDefault(&c.SegmentBytes, min(DefaultSegmentBytes, c.MaxBytes/MinSegments))
	setDefault(&c.CommitRecords, DefaultCommitRecords)
	setDefault(&c.CommitWindow, DefaultCommitWindow)
	setDefault(&c.CursorEvery, DefaultCursorEvery)
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

func (c Config) validate() error {
	const leastSegment = segmentHead + recordHead + 2 + MaxKey
	switch {
	case c.Dir == "":
		return errors.New("no directory is given")
	case c.SegmentBytes < leastSegment:
		return fmt.Errorf("segments of %d bytes, at least %d are needed", c.SegmentBytes, leastSegment)
	case c.MaxBytes < MinSegments*c.SegmentBytes:
		return fmt.Errorf("at most %d bytes in segments of %d, at least %d segments are needed", c.MaxBytes, c.SegmentBytes, MinSegments)
	case c.CommitRecords < 0 || c.CursorEvery < 0:
		return errors.New("a bound is negative")
	}
	return nil
}

// Record is one entry. Numbers rise by one and are never used for another
// acknowledged record.
type Record struct {
	Number uint64 // set by the spool
	Key    string // whose loss it is when the record is lost; at most MaxKey bytes of UTF-8
	Data   []byte
}

// Spool is an open spool. Its methods are safe for concurrent use. One
// goroutine writes; it ends with Close.
type Spool struct {
	cfg    Config
	id     identity
	lock   *os.File
	disk   disk
	append chan *request
	nudge  chan struct{} // an acknowledgement waits to be written
	closed chan struct{}
	ended  chan struct{}
	close  sync.Once

	active *os.File // of the last segment; nil: the next record begins a new one. The writer's.

	state   sync.Mutex // held while state files change; taken before mu
	written time.Time  // when the cursor was written; under state
	saved   uint64     // what it says; under state

	mu       sync.Mutex
	segments []segment // ascending; the last one is being written
	next     uint64    // the number of the next record
	acked    uint64    // every record up to this one is acknowledged or dropped
	lost     losses
	hint     hint

	notes []string // what Open found and mended; not changed after
	cut   int64    // bytes that Open cut off the end; not changed after
}

type request struct {
	records []Record
	last    uint64
	err     error
	done    chan struct{}
}

// Open opens the spool in cfg.Dir, or makes one, and mends what a crash left. The
// error wraps ErrLocked while another process has it. Close must be called.
func Open(cfg Config) (*Spool, error) {
	s, err := open(cfg, realDisk())
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func open(cfg Config, d disk) (*Spool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{
		cfg: cfg, lock: lock, disk: d,
		append: make(chan *request, maxWaiting), nudge: make(chan struct{}, 1),
		closed: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := s.recover(); err != nil {
		if s.active != nil {
			_ = s.active.Close()
		}
		_ = lock.Close()
		return nil, err
	}
	go s.write()
	return s, nil
}

// ID names this spool for ever, in 32 hexadecimal digits: record numbers mean something
// together with it only. A spool made anew has another.
func (s *Spool) ID() string { return s.id.String() }

// Notes says what Open found amiss and mended, one line each, for the log.
func (s *Spool) Notes() []string { return s.notes }

// Append stores records, in order, and returns the last one's number when they
// are on disk; it shares the sync with other callers. It blocks until then or until ctx
// ends; after that they may be stored all the same. After an error none counts as stored, though a
// first part of them may be read: whoever tries again may store a record
// twice. The error wraps ErrTooLarge, ErrClosed, ctx's error, or the disk's; see
// IsFull. After an error the spool is whole and the next Append may succeed. The records' data must
// not change until Append returns; when it returns early with ctx's error, never.
func (s *Spool) Append(ctx context.Context, records ...Record) (last uint64, err error) {
	for i := range records {
		if !utf8.ValidString(records[i].Key) {
			return 0, fmt.Errorf("append: key %.80q is not UTF-8", records[i].Key)
		}
		if len(records[i].Key) > MaxKey || s.cfg.SegmentBytes < segmentHead+recordSize(&records[i]) {
			return 0, fmt.Errorf("append %d bytes of %.80q: %w", len(records[i].Data), records[i].Key, ErrTooLarge)
		}
	}
	if len(records) == 0 {
		return s.Stats().Last, nil
	}
	r := &request{records: records, done: make(chan struct{})}
	select {
	case <-s.closed:
		return 0, ErrClosed
	default:
	}
	select {
	case s.append <- r:
	case <-s.closed:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, fmt.Errorf("append: %w", context.Cause(ctx))
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("append: %w", context.Cause(ctx))
	case <-s.ended: // closed, and the request was too late or was served in the end
		select {
		case <-r.done:
		default:
			return 0, ErrClosed
		}
	}
	if r.err != nil {
		return 0, fmt.Errorf("append to spool %s: %w", s.cfg.Dir, r.err)
	}
	return r.last, nil
}

// Ack says that every record up to upTo has been dealt with; they may be gone
// from now on. Reading does not delete, only this does. Numbers beyond the last
// record mean the last; lower ones than before change nothing. An error says that it is not
// on disk yet, and that it will be tried again; in memory it holds.
func (s *Spool) Ack(upTo uint64) error {
	s.state.Lock()
	defer s.state.Unlock()
	s.mu.Lock()
	upTo = min(upTo, s.next-1)
	if upTo > s.acked {
		s.acked = upTo
	}
	gone := s.ackedSegments()
	s.mu.Unlock()
	if gone == 0 && time.Since(s.written) < s.cfg.CursorEvery {
		select {
		case s.nudge <- struct{}{}:
		default:
		}
		return nil
	}
	return s.saveAcked(gone)
}

// ackedSegments returns how many of the first segments hold nothing that is
// needed; the last one is kept. Under mu.
func (s *Spool) ackedSegments() int {
	n := 0
	for n+1 < len(s.segments) && s.segments[n+1].first <= s.acked+1 {
		n++
	}
	return n
}

// saveAcked writes the cursor and then removes the first gone segments. When there
// is no room for the cursor, they are removed before: that makes room. Under state.
func (s *Spool) saveAcked(gone int) error {
	err := s.saveCursor()
	if err != nil && !IsFull(err) {
		return err
	}
	s.removeFirst(gone)
	if err != nil && gone > 0 {
		err = s.saveCursor()
	}
	return err
}

func (s *Spool) saveCursor() error {
	s.mu.Lock()
	acked := s.acked
	s.mu.Unlock()
	s.written = time.Now()
	if acked == s.saved {
		return nil
	}
	if err := writeState(s.cfg.Dir, cursorFile, s.id, cursor{Acked: acked}); err != nil {
		return err
	}
	s.saved = acked
	return nil
}

// removeFirst removes segments from the list and from the disk. A file that
// cannot be removed is removed by the next Open.
func (s *Spool) removeFirst(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	gone := s.segments[:n]
	s.segments = append([]segment(nil), s.segments[n:]...)
	s.mu.Unlock()
	for i := range gone {
		_ = os.Remove(gone[i].path)
	}
}

// Stats are a spool's numbers at one moment.
type Stats struct {
	Records int64  // not acknowledged; damaged ones that no Read met are among them
	Bytes   int64  // of all segments
	Oldest  uint64 // number of the oldest record that is not acknowledged; Last+1 if there is none
	Last    uint64 // number of the last record; zero before the first
	Dropped uint64 // records the bound forced out, since the spool was made
	Damaged uint64 // records lost to damage on the disk, since the spool was made
	Cut     int64  // bytes that Open cut off as a torn write
}

// Stats returns the numbers of now.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Records: int64(s.next - 1 - s.acked), Oldest: s.acked + 1, Last: s.next - 1,
		Dropped: s.lost.dropped(), Damaged: s.lost.Damaged, Cut: s.cut,
	}
	for i := range s.segments {
		st.Bytes += s.segments[i].size
	}
	return st
}

// Lost returns how many records of each key the bound forced out, since the
// spool was made. A record that was being sent when it was dropped may have arrived all the same.
func (s *Spool) Lost() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost.copy().Keys
}

// Close writes what was appended and acknowledged, and gives the directory
// free. Appends that wait are served or get ErrClosed. It returns the first
// error of a last write. It is safe to call twice.
func (s *Spool) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closed)
		<-s.ended
		s.state.Lock()
		defer s.state.Unlock()
		err = s.saveCursor()
		if s.active != nil {
			err = errors.Join(err, s.active.Close())
		}
		err = errors.Join(err, s.lock.Close())
	})
	<-s.ended
	return err
}
