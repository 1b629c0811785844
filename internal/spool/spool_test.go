package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir) // never returns
	}
	goleak.VerifyTestMain(m)
}

func small(dir string) Config {
	return Config{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 4 << 10, CommitWindow: -1}
}

func mustOpen(t testing.TB, cfg Config) *Spool {
	t.Helper()
	s, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func rec(key, data string) Record { return Record{Key: key, Data: []byte(data)} }

func mustAppend(t testing.TB, s *Spool, records ...Record) uint64 {
	t.Helper()
	last, err := s.Append(t.Context(), records...)
	require.NoError(t, err)
	return last
}

// texts reads all that is left, as "number key data".
func texts(t testing.TB, s *Spool) []string {
	t.Helper()
	var all []string
	from := s.Stats().Oldest
	for {
		records, err := s.Read(from, 7, 1<<20)
		require.NoError(t, err)
		if len(records) == 0 {
			return all
		}
		for _, r := range records {
			all = append(all, fmt.Sprintf("%d %s %s", r.Number, r.Key, r.Data))
			from = r.Number + 1
		}
	}
}

func TestWhatIsAppendedIsReadAgainAfterARestart(t *testing.T) {
	cfg := small(t.TempDir())
	s := mustOpen(t, cfg)
	require.Equal(t, uint64(2), mustAppend(t, s, rec("a", "x"), rec("b", "")))
	require.Equal(t, uint64(3), mustAppend(t, s, rec("", "z")))
	want := []string{"1 a x", "2 b ", "3  z"}
	require.Equal(t, want, texts(t, s))
	id := s.ID()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	s = mustOpen(t, cfg)
	require.Equal(t, want, texts(t, s))
	require.Equal(t, id, s.ID())
	require.Empty(t, s.Notes())
	require.NoError(t, s.Ack(2))
	require.Equal(t, want[2:], texts(t, s))
	require.NoError(t, s.Close())
	s = mustOpen(t, cfg)
	require.Equal(t, want[2:], texts(t, s))
	require.Equal(t, uint64(4), mustAppend(t, s, rec("a", "y")))
}

func TestReadKeepsItsBounds(t *testing.T) {
	s := mustOpen(t, small(t.TempDir()))
	for i := range 500 {
		mustAppend(t, s, rec("k", fmt.Sprintf("%04d", i)))
	}
	for from := uint64(1); from <= 500; from += 37 {
		got, err := s.Read(from, 10, 1<<20)
		require.NoError(t, err)
		require.Len(t, got, int(min(10, 501-from)))
		require.Equal(t, from, got[0].Number)
		got, err = s.Read(from, 100, 11)
		require.NoError(t, err)
		require.Len(t, got, int(min(2, 501-from)))
		got, err = s.Read(from, 0, 0)
		require.NoError(t, err)
		require.Len(t, got, 1, "one record in any case")
	}
	got, err := s.Read(501, 10, 100)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestOneProcessAtATime(t *testing.T) {
	cfg := small(t.TempDir())
	s := mustOpen(t, cfg)
	_, err := Open(cfg)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, cfg.Dir)
	require.NoError(t, s.Close())
	mustOpen(t, cfg)
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no directory":     {},
		"one segment":      {Dir: t.TempDir(), MaxBytes: 8191, SegmentBytes: 4096},
		"tiny segments":    {Dir: t.TempDir(), MaxBytes: 8192, SegmentBytes: 100},
		"negative records": {Dir: t.TempDir(), CommitRecords: -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(cfg)
			require.Error(t, err)
		})
	}
}

func TestRecordBounds(t *testing.T) {
	cfg := small(t.TempDir())
	s := mustOpen(t, cfg)
	most := int(cfg.SegmentBytes) - segmentHead - recordHead - keyHead - 1
	mustAppend(t, s, Record{Key: "k", Data: make([]byte, most)})
	_, err := s.Append(t.Context(), Record{Key: "k", Data: make([]byte, most+1)})
	require.ErrorIs(t, err, ErrTooLarge)
	mustAppend(t, s, Record{Key: string(bytes.Repeat([]byte("k"), MaxKey))})
	_, err = s.Append(t.Context(), Record{Key: string(bytes.Repeat([]byte("k"), MaxKey+1))})
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = s.Append(t.Context(), Record{Key: "\xff"})
	require.ErrorContains(t, err, "UTF-8")
	got, err := s.Read(1, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Len(t, got[0].Data, most)
}

func diskBytes(t *testing.T, dir string) (sum int64) {
	t.Helper()
	segments, err := listSegments(dir)
	require.NoError(t, err)
	for _, s := range segments {
		sum += s.size
	}
	return sum
}

func TestTheByteBoundHoldsAndLossesAreCountedByKey(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.MaxBytes = 2 * cfg.SegmentBytes
	s := mustOpen(t, cfg)
	want := map[string]uint64{}
	const n = 2000
	for i := range n {
		mustAppend(t, s, rec(fmt.Sprintf("device-%d", i%7), "0123456789"))
		require.LessOrEqual(t, diskBytes(t, cfg.Dir), cfg.MaxBytes)
		require.Equal(t, diskBytes(t, cfg.Dir), s.Stats().Bytes)
	}
	left := texts(t, s)
	st := s.Stats()
	require.Equal(t, int(st.Records), len(left))
	require.Equal(t, uint64(n), st.Dropped+uint64(len(left)))
	for i := range int(st.Dropped) {
		want[fmt.Sprintf("device-%d", i%7)]++
	}
	require.Equal(t, want, s.Lost())
	require.Zero(t, st.Damaged)
	require.NoError(t, s.Close())
	s = mustOpen(t, cfg)
	require.Equal(t, want, s.Lost(), "losses survive a restart")
	require.Equal(t, left, texts(t, s))
}

func TestAcknowledgedRecordsAreNotLosses(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.MaxBytes = 2 * cfg.SegmentBytes
	cfg.CursorEvery = time.Hour
	s := mustOpen(t, cfg)
	for range 2000 {
		require.NoError(t, s.Ack(mustAppend(t, s, rec("k", "0123456789"))))
	}
	require.Empty(t, s.Lost())
	s2 := abandonAndOpen(t, s, cfg)
	require.Empty(t, s2.Lost())
	require.Zero(t, s2.Stats().Damaged)
}

// abandonAndOpen opens the directory as after a crash of the process that has s.
func abandonAndOpen(t *testing.T, s *Spool, cfg Config) *Spool {
	t.Helper()
	require.NoError(t, s.lock.Close())
	s2, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s2.Close() })
	return s2
}

func TestLostKeysAreBounded(t *testing.T) {
	l := losses{Keys: map[string]uint64{}}
	for i := range MaxLostKeys + 5 {
		l.add(fmt.Sprint(i))
	}
	l.add("0")
	require.Len(t, l.Keys, MaxLostKeys+1)
	require.Equal(t, uint64(5), l.Keys[""])
	require.Equal(t, uint64(2), l.Keys["0"])
	require.Equal(t, uint64(MaxLostKeys+6), l.dropped())
}

func TestAppendsShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small(t.TempDir())
		cfg.CommitWindow = time.Second
		syncs := 0
		d := realDisk()
		d.sync = func(f *os.File) error { syncs++; return fdatasync(f) }
		s, err := open(cfg, d)
		require.NoError(t, err)
		defer s.Close()
		mustAppend(t, s, rec("k", "0"))
		before, start := syncs, time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { mustAppend(t, s, rec("k", "1")) })
		}
		wg.Wait()
		require.Equal(t, 1, syncs-before)
		require.Equal(t, time.Second, time.Since(start), "they wait for company")
		require.Equal(t, int64(51), s.Stats().Records)
	})
}

func TestAppendEndsWithItsContextAndWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small(t.TempDir())
		cfg.CommitWindow = time.Hour
		s, err := Open(cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Append(ctx, rec("k", "1"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var wg sync.WaitGroup
		wg.Go(func() { _, err = s.Append(t.Context(), rec("k", "2")) })
		synctest.Wait()
		require.NoError(t, s.Close())
		wg.Wait()
		require.NoError(t, err, "it was waiting for company")
		_, err = s.Append(t.Context(), rec("k", "3"))
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestTheCursorIsWrittenSoonAfterTheLastAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small(t.TempDir())
		s, err := Open(cfg)
		require.NoError(t, err)
		mustAppend(t, s, rec("k", "1"), rec("k", "2"), rec("k", "3"))
		for n := range uint64(3) {
			require.NoError(t, s.Ack(n+1))
		}
		time.Sleep(DefaultCursorEvery)
		synctest.Wait()
		var c cursor
		require.NoError(t, readState(cfg.Dir, cursorFile, s.id, &c))
		require.Equal(t, uint64(3), c.Acked)
		require.NoError(t, s.Close())
	})
}

var errDisk = errors.New("input/output error")

// TestFailingDisk lets each kind of call fail at each occasion, and checks that
// what was acknowledged is there, and that the spool goes on afterwards.
func TestFailingDisk(t *testing.T) {
	for _, call := range []string{"write", "partial write", "sync", "create"} {
		t.Run(call, func(t *testing.T) {
			for occasion := range 40 {
				failDisk(t, call, occasion)
			}
		})
	}
}

func failDisk(t *testing.T, call string, occasion int) {
	count := 0
	fails := func(c string) bool {
		if c != call && (c != "write" || call != "partial write") {
			return false
		}
		count++
		return count-1 == occasion || count-1 == occasion+1
	}
	real := realDisk()
	d := disk{
		create: func(path string) (*os.File, error) {
			if fails("create") {
				return nil, unix.ENOSPC
			}
			return real.create(path)
		},
		write: func(f *os.File, b []byte, offset int64) error {
			if fails("write") {
				if call == "partial write" {
					_ = real.write(f, b[:len(b)/2], offset)
				}
				return unix.ENOSPC
			}
			return real.write(f, b, offset)
		},
		sync: func(f *os.File) error {
			if fails("sync") {
				return errDisk
			}
			return real.sync(f)
		},
	}
	cfg := small(t.TempDir())
	cfg.SegmentBytes = 500
	s, err := open(cfg, d)
	require.NoError(t, err)
	var want []string
	for i := range 60 {
		data := fmt.Sprintf("record %d", i)
		last, err := s.Append(t.Context(), rec("k", data))
		if err != nil {
			require.True(t, IsFull(err) || errors.Is(err, errDisk))
			continue
		}
		want = append(want, fmt.Sprintf("%d k %s", last, data))
	}
	require.Equal(t, want, texts(t, s))
	require.Zero(t, s.Stats().Damaged)
	s2 := abandonAndOpen(t, s, cfg)
	require.Equal(t, want, texts(t, s2))
	require.Zero(t, s2.Stats().Damaged)
	require.NoError(t, s2.Close())
	_ = s.Close()
}

// TestFullDisk fills a real file system.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"), "this test needs the right to mount")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 64<<10), 0o600))
	cfg := Config{Dir: filepath.Join(dir, "spool"), MaxBytes: 1 << 20, SegmentBytes: 32 << 10, CommitWindow: -1}
	s := mustOpen(t, cfg)
	var want []string
	var full error
	for i := 0; full == nil; i++ {
		data := fmt.Sprintf("%0100d", i)
		var last uint64
		if last, full = s.Append(t.Context(), rec("k", data)); full == nil {
			want = append(want, fmt.Sprintf("%d k %s", last, data))
		}
	}
	require.True(t, IsFull(full), "%v", full)
	_, err := s.Append(t.Context(), rec("k", strings.Repeat("x", 8<<10)))
	require.True(t, IsFull(err))
	require.Equal(t, want, texts(t, s))
	require.NoError(t, os.Remove(ballast))
	last := mustAppend(t, s, rec("k", "space is back"))
	want = append(want, fmt.Sprintf("%d k space is back", last))
	require.Equal(t, want, texts(t, s))
	s2 := abandonAndOpen(t, s, cfg)
	require.Equal(t, want, texts(t, s2))
	require.Zero(t, s2.Stats().Damaged)
	require.NoError(t, s2.Close())
}

// TestAcknowledgingFreesAFullDisk: there is no room for a new cursor, and yet it must go on.
func TestAcknowledgingFreesAFullDisk(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"), "this test needs the right to mount")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s := mustOpen(t, Config{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 16 << 10, CommitWindow: -1})
	var err error
	for err == nil {
		_, err = s.Append(t.Context(), rec("k", fmt.Sprintf("%0100d", 1)))
	}
	require.True(t, IsFull(err))
	require.NoError(t, s.Ack(s.Stats().Last))
	mustAppend(t, s, rec("k", "space is back"))
}
