package history_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/history"
)

func TestSpansMergeAndFill(t *testing.T) {
	var s history.Spans
	for _, step := range []struct {
		seq     uint64
		want    history.Verdict
		missing uint64
		text    string
	}{
		{3, history.New, 2, "{[3,4)}"},
		{3, history.Duplicate, 2, "{[3,4)}"},
		{4, history.New, 2, "{[3,5)}"},
		{9, history.New, 6, "{[3,5),[9,10)}"},
		{8, history.New, 5, "{[3,5),[8,10)}"},
		{1, history.New, 4, "{[1,2),[3,5),[8,10)}"},
		{2, history.New, 3, "{[1,5),[8,10)}"},
		{6, history.New, 2, "{[1,5),[6,7),[8,10)}"},
		{5, history.New, 1, "{[1,7),[8,10)}"},
		{7, history.New, 0, "{[1,10)}"},
		{1, history.Duplicate, 0, "{[1,10)}"},
	} {
		require.Equal(t, step.want, s.Add(step.seq), "seq %d", step.seq)
		require.Equal(t, step.missing, s.Missing(), "seq %d", step.seq)
		require.Equal(t, step.text, string(s.AppendText(nil)))
	}
}

func TestSpansGiveUpTheLowestHoleAtTheBound(t *testing.T) {
	var s history.Spans
	for i := range uint64(history.MaxSpans) {
		require.Equal(t, history.New, s.Add(2*i+2))
	}
	require.Equal(t, history.MaxSpans, s.Len())
	require.Zero(t, s.Floor())
	require.Equal(t, uint64(history.MaxSpans), s.Missing())

	require.Equal(t, history.New, s.Add(5000)) // one hole more
	require.Equal(t, history.MaxSpans, s.Len())
	require.Equal(t, uint64(2), s.Floor())
	require.Equal(t, history.Forgotten, s.Add(1))
	require.Equal(t, history.Forgotten, s.Add(2))
	require.Equal(t, history.New, s.Add(3), "the next hole is still open")
	require.Equal(t, history.Duplicate, s.Add(4))

	again, err := history.ParseSpans(string(s.AppendText(nil)), s.Floor())
	require.NoError(t, err)
	require.Equal(t, s, again)
}

func TestSpansEqualASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s history.Spans
		set := map[uint64]bool{}
		highest := uint64(0)
		for _, seq := range rapid.SliceOfN(rapid.Uint64Range(1, 60), 0, 100).Draw(t, "seqs") {
			want := history.New
			if set[seq] {
				want = history.Duplicate
			}
			require.Equal(t, want, s.Add(seq))
			set[seq] = true
			highest = max(highest, seq)
		}
		require.Equal(t, highest-uint64(len(set)), s.Missing())
		missing := uint64(0)
		for _, hole := range s.Holes() {
			for seq := hole.First; seq <= hole.Last; seq++ {
				require.False(t, set[seq])
				missing++
			}
		}
		require.Equal(t, s.Missing(), missing)
		again, err := history.ParseSpans(string(s.AppendText(nil)), 0)
		require.NoError(t, err)
		require.Equal(t, s.Len(), again.Len())
		require.Equal(t, s.AppendText(nil), again.AppendText(nil))
	})
}

func FuzzParseSpans(f *testing.F) {
	for _, seed := range []string{"{}", "{[1,2)}", "{[1,18),[20,21)}", "{[1,2),[2,3)}", "{[9,3)}", "{[1,2),}", "[1,2)", "{[0,1)}", "{[1,9223372036854775807)}"} {
		f.Add(seed, uint64(0))
	}
	f.Add("{[3,4)}", uint64(2))
	f.Fuzz(func(t *testing.T, text string, floor uint64) {
		s, err := history.ParseSpans(text, floor)
		if err != nil {
			return
		}
		again, err := history.ParseSpans(string(s.AppendText(nil)), floor)
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}
