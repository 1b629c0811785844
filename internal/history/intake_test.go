package history_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/pkg/twin"
)

func event(device string, epoch, seq uint64) twin.Event {
	return twin.Event{
		DeviceID: device, Time: time.Unix(int64(seq), 0).UTC(), Epoch: epoch, Seq: seq,
		Readings: []twin.Reading{{Property: "p", Value: twin.IntValue(int64(seq))}},
	}
}

func TestSiftLeavesDuplicatesOut(t *testing.T) {
	b := history.Batch{Ranges: []history.Range{
		{Partition: 0, Events: []twin.Event{event("a", 1, 1), event("b", 1, 2), event("a", 1, 1), event("plain", 0, 0)}},
		{Partition: 1, Events: []twin.Event{event("b", 1, 2), event("b", 2, 1), event("plain", 0, 0)}},
	}}
	require.Equal(t, []history.Stream{{Device: "a", Epoch: 1}, {Device: "b", Epoch: 1}, {Device: "b", Epoch: 2}}, b.Streams())
	marks := map[history.Stream]*history.Spans{}
	for _, s := range b.Streams() {
		marks[s] = &history.Spans{}
	}
	events, out, err := history.Sift(&b, marks)
	require.NoError(t, err)
	require.Len(t, events, 5)
	require.Equal(t, history.Outcome{Rows: 5, Events: 5, Duplicates: 2, Missed: 1}, out)
}

func TestSiftRefusesWhatIsForgotten(t *testing.T) {
	spans, err := history.ParseSpans("{[10,11)}", 8)
	require.NoError(t, err)
	b := history.Batch{Ranges: []history.Range{{Events: []twin.Event{event("a", 1, 8)}}}}
	_, _, err = history.Sift(&b, map[history.Stream]*history.Spans{{Device: "a", Epoch: 1}: &spans})
	require.ErrorIs(t, err, history.ErrRefused)
}

func TestCheckRefusesNumbersBeyondTheDatabases(t *testing.T) {
	e := event("a", 1, history.MaxSequence)
	require.NoError(t, history.Check(&e))
	e.Seq++
	require.ErrorIs(t, history.Check(&e), history.ErrRefused)
	e = event("a", history.MaxSequence+1, 1)
	require.ErrorIs(t, history.Check(&e), history.ErrRefused)
}
