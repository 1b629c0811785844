package spool

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzParseRecord(f *testing.F) {
	sums := newChecksums(identity{1})
	f.Add(sums.appendRecord(nil, &Record{Number: 1, Key: "ns/name", Data: []byte("data")}), false)
	f.Add(sums.appendRecord(nil, &Record{Number: 7}), true)
	f.Add([]byte{}, false)
	f.Add(bytes.Repeat([]byte{0xff}, 40), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= recordHead { // give it the right checksum, so that more than that is tried
			size := min(uint64(len(b)), recordHead+uint64(b[0]))
			b = bytes.Clone(b[:size])
			b[0], b[1], b[2], b[3] = byte(size-recordHead), 0, 0, 0
			sum := sums.sum(b)
			b[4], b[5], b[6], b[7] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		r, size, ok := sums.parseRecord(b, 1, ^uint64(0))
		if !ok {
			return
		}
		require.LessOrEqual(t, size, len(b))
		require.Equal(t, b[:size], sums.appendRecord(nil, &r))
	})
}

func FuzzScan(f *testing.F) {
	sums := newChecksums(identity{1})
	var log []byte
	for n := range uint64(5) {
		log = sums.appendRecord(log, &Record{Number: n + 1, Key: "k", Data: []byte("data")})
	}
	f.Add(log, uint16(30), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= flip
		}
		low := uint64(1)
		end := sums.scan(b, 1, ^uint64(0), func(r Record, end int) bool {
			require.GreaterOrEqual(t, r.Number, low)
			require.LessOrEqual(t, end, len(b))
			low = r.Number + 1
			return true
		})
		require.LessOrEqual(t, end, len(b))
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, group := range []int{1, 20, 500} {
		b.Run(groupName(group), func(b *testing.B) {
			s := mustOpen(b, Config{Dir: b.TempDir(), CommitWindow: -1})
			records := make([]Record, group)
			for i := range records {
				records[i] = Record{Key: "plant/boiler-01", Data: make([]byte, 256)}
			}
			for b.Loop() {
				mustAppend(b, s, records...)
				require.NoError(b, s.Ack(s.Stats().Last))
			}
			b.ReportMetric(float64(b.N*group)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func groupName(n int) string { return map[int]string{1: "1", 20: "20", 500: "500"}[n] + " a sync" }
