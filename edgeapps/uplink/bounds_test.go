package uplink

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

func TestRejectedSamplesAreBounded(t *testing.T) {
	dir := t.TempDir()
	data := make([]byte, maxRejectedBytes/8) // zeros: not JSON, kept as base64
	for n := range uint64(10) {
		require.NoError(t, saveRejected(dir, spool.Record{Number: n + 1, Key: "plant/a", Data: data}, "too odd", time.Unix(0, 0)))
		total := int64(0)
		entries, err := os.ReadDir(filepath.Join(dir, rejectedDir))
		require.NoError(t, err)
		for _, e := range entries {
			info, err := e.Info()
			require.NoError(t, err)
			total += info.Size()
		}
		require.LessOrEqual(t, total, int64(maxRejectedBytes))
		require.Equal(t, fmt.Sprintf("%020d.json", n+1), entries[len(entries)-1].Name(), "the newest is kept")
	}
}

func TestAcknowledgementsAreBounded(t *testing.T) {
	a := newAcks()
	positions := map[twin.DeviceID]twin.Position{}
	for i := range maxAckDevices + 1 {
		positions[device1(fmt.Sprint("d", i))] = twin.Position{Epoch: 1, Seq: 1}
	}
	a.set(positions)
	first, more := a.take()
	require.Len(t, first.Acks, maxAckDevices)
	require.True(t, more)
	second, more := a.take()
	require.Len(t, second.Acks, 1)
	require.False(t, more)
	none, more := a.take()
	require.Empty(t, none.Acks)
	require.False(t, more)
}

func TestTheIntakeIsBounded(t *testing.T) {
	q := newIntake(10 * (itemOverhead + 100))
	it := item{payload: make([]byte, 100)}
	for range 10 {
		require.True(t, q.put(t.Context(), it, 0))
	}
	require.False(t, q.put(t.Context(), it, 0))
	require.Len(t, q.take(t.Context(), 4), 4)
	require.True(t, q.put(t.Context(), it, 0))
	require.Len(t, q.take(t.Context(), 100), 7)
	require.Zero(t, q.bytes)
	require.True(t, q.put(t.Context(), item{payload: make([]byte, 1<<20)}, 0), "one goes in any case")
}
