package spool

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// copyDir copies the files of one directory to a new one.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// logOf makes a spool of n records in segments, closed, with record 1 acknowledged.
func logOf(t *testing.T, n int) (dir string, want []string) {
	t.Helper()
	cfg := small(t.TempDir())
	cfg.SegmentBytes = 500
	s := mustOpen(t, cfg)
	for i := range n {
		mustAppend(t, s, rec("k"+strconv.Itoa(i%3), fmt.Sprintf("data-%d", i)))
	}
	require.NoError(t, s.Ack(1))
	want = texts(t, s)
	require.Len(t, want, n-1)
	require.NoError(t, s.Close())
	return cfg.Dir, want
}

func TestTruncatedAtEveryByte(t *testing.T) {
	dir, want := logOf(t, 12)
	segments, err := listSegments(dir)
	require.NoError(t, err)
	require.Len(t, segments, 1)
	whole, err := os.ReadFile(segments[0].path)
	require.NoError(t, err)
	kept := -1
	for size := range len(whole) {
		torn := copyDir(t, dir)
		require.NoError(t, os.WriteFile(segmentPath(torn, 1), whole[:size], 0o600))
		s := mustOpen(t, small(torn))
		got := texts(t, s)
		require.Equal(t, strings.Join(want[:len(got)], "\n"), strings.Join(got, "\n"))
		require.GreaterOrEqual(t, len(got), kept, "a longer file has as many records")
		kept = len(got)
		last := mustAppend(t, s, rec("k", "after"))
		require.Equal(t, append(got, fmt.Sprintf("%d k after", last)), texts(t, s))
		require.NoError(t, s.Close())
	}
	require.Equal(t, len(want)-1, kept)
}

func TestEveryFlippedBitCostsOneRecordAtMost(t *testing.T) {
	dir, want := logOf(t, 18)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	flips := 0
	for _, e := range entries {
		whole, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		damaged := copyDir(t, dir)
		for i := range 8 * len(whole) {
			flips++
			flipped := bytes.Clone(whole)
			flipped[i/8] ^= 1 << (i % 8)
			require.NoError(t, os.RemoveAll(damaged))
			require.NoError(t, os.CopyFS(damaged, os.DirFS(dir)))
			require.NoError(t, os.WriteFile(filepath.Join(damaged, e.Name()), flipped, 0o600))
			requireAlmost(t, damaged, want, fmt.Sprintf("%s bit %d", e.Name(), i))
		}
	}
	require.Greater(t, flips, 4000)
}

// requireAlmost checks that at most one record is gone, and that it is counted or was cut off.
func requireAlmost(t *testing.T, dir string, want []string, what string) {
	t.Helper()
	s, err := Open(Config{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 500, CommitWindow: -1})
	require.NoError(t, err, what)
	defer s.Close()
	got := texts(t, s)
	missing := 0
	for _, text := range want {
		if len(got) > 0 && got[0] == text {
			got = got[1:]
		} else if len(got) > 0 && strings.HasPrefix(got[0], "1 ") { // the acknowledgement was forgotten
			got = got[1:]
			require.Equal(t, text, got[0], what)
			got = got[1:]
		} else {
			missing++
		}
	}
	require.Empty(t, got, what)
	require.LessOrEqual(t, missing, 1, what)
	st := s.Stats()
	require.Equal(t, missing == 1, st.Damaged == 1 || st.Cut > 0, what)
}

func TestDamageIsCountedOnce(t *testing.T) {
	dir, _ := logOf(t, 60)
	segments, err := listSegments(dir)
	require.NoError(t, err)
	require.Greater(t, len(segments), 2)
	whole, err := os.ReadFile(segments[1].path)
	require.NoError(t, err)
	clear(whole[segmentHead : len(whole)-40])
	require.NoError(t, os.WriteFile(segments[1].path, whole, 0o600))
	cfg := small(dir)
	var damaged uint64
	for range 3 {
		s := mustOpen(t, cfg)
		_ = texts(t, s)
		_ = texts(t, s)
		if damaged == 0 {
			damaged = s.Stats().Damaged
			require.Greater(t, damaged, uint64(1))
		}
		require.Equal(t, damaged, s.Stats().Damaged)
		require.Equal(t, 59-int(damaged), len(texts(t, s)))
		require.NoError(t, s.Close())
	}
}

func TestAMissingSegmentIsCounted(t *testing.T) {
	for _, which := range []int{0, 1} {
		dir, want := logOf(t, 60)
		segments, err := listSegments(dir)
		require.NoError(t, err)
		require.NoError(t, os.Remove(segments[which].path))
		gone := int(segments[which+1].first - segments[which].first)
		if which == 0 {
			gone-- // record 1 was acknowledged
		}
		s := mustOpen(t, small(dir))
		require.Len(t, texts(t, s), len(want)-gone)
		require.Equal(t, uint64(gone), s.Stats().Damaged)
	}
}

func TestASegmentThatIsRemovedFromAnOpenSpoolIsCounted(t *testing.T) {
	for _, which := range []int{0, 1} {
		dir, want := logOf(t, 60)
		s := mustOpen(t, small(dir))
		segments, err := listSegments(dir)
		require.NoError(t, err)
		require.Greater(t, len(segments), 2)
		require.NoError(t, os.Remove(segments[which].path))
		gone := int(segments[which+1].first - segments[which].first)
		if which == 0 {
			gone-- // record 1 was acknowledged
		}
		require.Len(t, texts(t, s), len(want)-gone, "the records behind it are read")
		require.Equal(t, uint64(gone), s.Stats().Damaged)
		require.Len(t, texts(t, s), len(want)-gone)
		require.Equal(t, uint64(gone), s.Stats().Damaged, "counted once")
	}
}

func TestBytesOfAnotherSpoolAreNoRecords(t *testing.T) {
	other, _ := logOf(t, 12)
	dir, want := logOf(t, 12)
	foreign, err := os.ReadFile(segmentPath(other, 1))
	require.NoError(t, err)
	own, err := os.ReadFile(segmentPath(dir, 1))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(segmentPath(dir, 1), append(own, foreign[segmentHead:]...), 0o600))
	s := mustOpen(t, small(dir))
	require.Equal(t, want, texts(t, s))
}

func TestARecordInsideARecordIsNotFound(t *testing.T) {
	cfg := small(t.TempDir())
	s := mustOpen(t, cfg)
	inner := newChecksums(identity{}).appendRecord(nil, &Record{Number: 2, Key: "forged", Data: []byte("x")})
	mustAppend(t, s, rec("k", "1"), Record{Key: "k", Data: inner}, rec("k", "3"))
	require.NoError(t, s.Close())
	path := segmentPath(cfg.Dir, 1)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	at := bytes.Index(whole, inner)
	whole[at-1] ^= 1 // the key of the outer one
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	s = mustOpen(t, cfg)
	require.Equal(t, []string{"1 k 1", "3 k 3"}, texts(t, s))
}

// TestModel drives a spool and a slice alike, with restarts, crashes that tear
// the write under way, acknowledgements and reads.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool-model")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		m := &model{cfg: Config{Dir: dir, MaxBytes: 4 << 10, SegmentBytes: 1 << 10, CommitWindow: -1, CursorEvery: time.Nanosecond}, lost: map[string]uint64{}}
		m.open(t)
		defer func() { _ = m.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append":  m.append,
			"ack":     m.ack,
			"restart": m.restart,
			"crash":   m.crash,
			"":        m.check,
		})
	})
}

type model struct {
	cfg     Config
	s       *Spool
	records []Record // not acknowledged, not dropped
	lost    map[string]uint64
}

func (m *model) open(t *rapid.T) {
	s, err := Open(m.cfg)
	require.NoError(t, err)
	m.s = s
}

func (m *model) append(t *rapid.T) {
	var records []Record
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		records = append(records, Record{Key: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "key"), Data: rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "data")})
	}
	last, err := m.s.Append(t.Context(), records...)
	require.NoError(t, err)
	for i := range records {
		records[i].Number = last - uint64(len(records)-1-i)
	}
	m.records = append(m.records, records...)
	for oldest := m.s.Stats().Oldest; len(m.records) > 0 && m.records[0].Number < oldest; m.records = m.records[1:] {
		m.lost[m.records[0].Key]++
	}
}

func (m *model) ack(t *rapid.T) {
	st := m.s.Stats()
	upTo := rapid.Uint64Range(st.Oldest-1, st.Last+2).Draw(t, "up to")
	require.NoError(t, m.s.Ack(upTo))
	for len(m.records) > 0 && m.records[0].Number <= upTo {
		m.records = m.records[1:]
	}
}

func (m *model) restart(t *rapid.T) {
	require.NoError(t, m.s.Close())
	m.open(t)
}

func (m *model) crash(t *rapid.T) {
	require.NoError(t, m.s.Close())
	segments, err := listSegments(m.cfg.Dir)
	require.NoError(t, err)
	if n := len(segments); n > 0 {
		torn := newChecksums(m.s.id).appendRecord(nil, &Record{Number: m.s.next, Key: "torn", Data: make([]byte, 50)})
		cut := rapid.IntRange(1, len(torn)-1).Draw(t, "torn at")
		f, err := os.OpenFile(segments[n-1].path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.Write(torn[:cut])
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	m.open(t)
}

func (m *model) check(t *rapid.T) {
	st := m.s.Stats()
	require.LessOrEqual(t, st.Bytes, m.cfg.MaxBytes)
	require.Equal(t, int64(len(m.records)), st.Records)
	require.Equal(t, m.lost, m.s.Lost())
	require.Zero(t, st.Damaged)
	from := st.Oldest
	rest := m.records
	for {
		got, err := m.s.Read(from, rapid.IntRange(1, 10).Draw(t, "at most"), rapid.IntRange(1, 2000).Draw(t, "bytes"))
		require.NoError(t, err)
		if len(got) == 0 {
			break
		}
		for i := range got {
			require.NotEmpty(t, rest)
			require.Equal(t, rest[0].Number, got[i].Number)
			require.Equal(t, rest[0].Key, got[i].Key)
			require.True(t, bytes.Equal(rest[0].Data, got[i].Data))
			rest = rest[1:]
		}
		from = got[len(got)-1].Number + 1
	}
	require.Empty(t, rest)
}

// victimDir makes the test binary a process that appends until it is killed.
const victimDir = "SPOOL_TEST_VICTIM"

// victim prints the number of every record once it is on disk.
func victim(dir string) {
	s, err := Open(Config{Dir: dir, MaxBytes: 64 << 20, SegmentBytes: 16 << 10, CommitWindow: time.Millisecond})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for i := range 4 {
		go func() {
			for {
				last, err := s.Append(background(), rec("k"+strconv.Itoa(i), strings.Repeat("x", 200)))
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				fmt.Println("stored", last)
			}
		}()
	}
	select {}
}

func TestKilledAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	highest := uint64(0)
	for round := range 12 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		highest = max(highest, killAfter(t, cmd, out, 20+37*round))
		s := mustOpen(t, Config{Dir: dir, MaxBytes: 64 << 20, SegmentBytes: 16 << 10})
		require.GreaterOrEqual(t, s.Stats().Last, highest)
		require.Zero(t, s.Stats().Damaged)
		require.Len(t, texts(t, s), int(s.Stats().Last), "every record from the first to the last is there")
		require.NoError(t, s.Close())
	}
}
