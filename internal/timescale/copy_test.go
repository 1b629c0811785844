package timescale

import (
	"io"
	"math"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

// TestNumericIsWhatPgxReads has the decoder of another hand read what is written.
func TestNumericIsWhatPgxReads(t *testing.T) {
	types := pgtype.NewMap()
	check := func(t require.TestingT, u uint64) {
		encoded := appendNumeric(nil, u)
		var got pgtype.Numeric
		require.NoError(t, types.Scan(pgtype.NumericOID, pgtype.BinaryFormatCode, encoded[4:], &got))
		text, err := got.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, twin.UintValue(u).Text(), string(text))
	}
	for _, u := range []uint64{1 << 63, math.MaxUint64, 10_000_000_000_000_000_000, 12_340_000_000_000_000_000} {
		check(t, u)
	}
	rapid.Check(t, func(rt *rapid.T) { check(rt, rapid.Uint64Min(1<<63).Draw(rt, "u")) })
}

func TestCopyReaderGivesTheSameInAnyPieces(t *testing.T) {
	series := newDictionary(10)
	series.put("d", "p", 1)
	series.put("d", "q", 2)
	var events []*twin.Event
	for i := range 5000 {
		events = append(events, &twin.Event{
			DeviceID: "d", Time: time.Unix(int64(i), 0), Epoch: 1, Seq: uint64(i + 1),
			Readings: []twin.Reading{{Property: "p", Value: twin.StringValue("text")}, twin.BadReading("q", "timeout")},
		})
	}
	whole, err := io.ReadAll(newCopyReader(events, series))
	require.NoError(t, err)
	require.Equal(t, copySignature, string(whole[:len(copySignature)]))
	require.Equal(t, []byte{0xff, 0xff}, whole[len(whole)-2:])
	pieces, err := io.ReadAll(iotest.OneByteReader(newCopyReader(events, series)))
	require.NoError(t, err)
	require.Equal(t, whole, pieces)
	require.NoError(t, iotest.TestReader(newCopyReader(events[:20], series), must(io.ReadAll(newCopyReader(events[:20], series)))))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestTheDictionaryIsBounded(t *testing.T) {
	d := newDictionary(10)
	for _, device := range []string{"a", "b", "c", "d"} {
		for _, property := range []string{"1", "2", "3", "4"} {
			d.put(device, property, 1)
		}
	}
	require.Equal(t, 16, d.size)
	d.trim()
	require.Equal(t, 8, d.size)
	require.Len(t, d.devices, 2)
}

func TestOpenNamesTheMistake(t *testing.T) {
	_, err := Open("postgres://host:port/db", nil)
	require.ErrorContains(t, err, "database")
}
