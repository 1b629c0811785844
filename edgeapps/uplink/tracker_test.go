package uplink

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

func TestAHoleIsNotAcknowledgedWhileItCanBeFilled(t *testing.T) {
	tr := newTracker(10)
	id := device1("a")
	now := time.Unix(0, 0)
	at := func(seq uint64) twin.Position { return twin.Position{Epoch: 1, Seq: seq} }
	put := func(seq uint64) { tr.stored(id, at(seq), now) }
	pos := func() uint64 { p, _ := tr.position(id); return p.Seq }

	put(1)
	put(2)
	put(5)
	put(6)
	require.Equal(t, uint64(2), pos())
	require.Equal(t, duplicate, tr.judge(id, at(5)))
	tr.again(id, at(5), now) // it comes again at once: from the broker
	require.Equal(t, uint64(2), pos())
	put(3)
	require.Equal(t, uint64(3), pos())
	put(4)
	require.Equal(t, uint64(6), pos())
	put(9)
	require.Equal(t, fresh, tr.judge(id, at(8)))
	for range gapRounds {
		require.Equal(t, uint64(6), pos())
		now = now.Add(gapPatience)
		tr.refused(id, now) // the round is void
		tr.again(id, at(9), now)
	}
	for range gapRounds {
		require.Equal(t, uint64(6), pos())
		now = now.Add(gapPatience)
		tr.again(id, at(9), now) // the mapper sends again, and begins after the hole
	}
	require.Equal(t, uint64(9), pos())
	require.Equal(t, uint64(2), tr.missing())
	put(12)
	now = now.Add(gapLimit)
	put(14)
	require.Equal(t, uint64(12), pos(), "nobody sends again")
	tr.stored(id, twin.Position{Epoch: 2, Seq: 1}, now)
	p, _ := tr.position(id)
	require.Equal(t, twin.Position{Epoch: 2, Seq: 1}, p)
	require.Equal(t, stale, tr.judge(id, at(99)))
}

func TestRunsBeyondAHoleAreBounded(t *testing.T) {
	tr := newTracker(10)
	id := device1("a")
	at := func(seq uint64) twin.Position { return twin.Position{Epoch: 1, Seq: seq} }
	for n := uint64(1); n <= 3*maxAhead; n++ {
		tr.stored(id, at(2*n), time.Unix(0, 0))
		require.LessOrEqual(t, len(tr.devices[id].ahead), maxAhead)
	}
	_, ok := tr.position(id)
	require.False(t, ok, "nothing is acknowledged over a hole")
	require.Equal(t, duplicate, tr.judge(id, at(2*maxAhead)))
	require.Equal(t, fresh, tr.judge(id, at(6*maxAhead)), "it will be stored twice")
}

// Samples in any order, and many: whatever is acknowledged was stored.
func TestNothingIsAcknowledgedThatWasNotStored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTracker(1)
		id := device1("a")
		have := map[uint64]bool{}
		for _, seq := range rapid.SliceOf(rapid.Uint64Range(1, 100)).Draw(t, "seqs") {
			p := twin.Position{Epoch: 1, Seq: seq}
			if tr.judge(id, p) == fresh {
				tr.stored(id, p, time.Unix(0, 0))
				have[seq] = true
			}
			require.True(t, have[seq])
			for n := uint64(1); n <= tr.devices[id].pos.Seq; n++ {
				require.True(t, have[n])
			}
		}
	})
}

func TestDevicesAreBounded(t *testing.T) {
	tr := newTracker(1)
	p := twin.Position{Epoch: 1, Seq: 1}
	require.Equal(t, fresh, tr.judge(device1("a"), p))
	tr.stored(device1("a"), p, time.Unix(0, 0))
	require.Equal(t, excess, tr.judge(device1("b"), p))
}

// Samples of one epoch in any order: the position is before the first hole, and
// a sample is fresh exactly once.
func TestTrackerAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTracker(1)
		id := device1("a")
		have := map[uint64]bool{}
		for _, seq := range rapid.SliceOf(rapid.Uint64Range(1, 12)).Draw(t, "seqs") {
			p := twin.Position{Epoch: 1, Seq: seq}
			require.Equal(t, !have[seq], tr.judge(id, p) == fresh)
			tr.stored(id, p, time.Unix(0, 0))
			have[seq] = true
			want := uint64(0)
			for have[want+1] {
				want++
			}
			require.Equal(t, want, tr.devices[id].pos.Seq)
			require.True(t, slices.IsSortedFunc(tr.devices[id].ahead, func(a, b span) int { return int(a.first) - int(b.first) }))
		}
	})
}
