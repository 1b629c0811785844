package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample(device string, seq uint64, readings ...twin.Reading) twin.Sample {
	if readings == nil {
		readings = []twin.Reading{}
	}
	id, err := twin.ParseDeviceID(device)
	if err != nil {
		panic(err)
	}
	return twin.Sample{Device: id, Epoch: 3, Seq: seq, Time: time.UnixMicro(1_767_323_045_000_000 + int64(seq)*1_000_000).UTC(), Readings: readings}
}

func reading(name string, v twin.Value) twin.Reading { return twin.Reading{Property: name, Value: v} }

func batchOf(samples ...twin.Sample) Batch {
	return Batch{Stream: "edge-1/0011", First: 7, Last: 6 + max(1, uint64(len(samples))), Samples: samples}
}

func TestRoundTripIsExact(t *testing.T) {
	odd := math.Float64frombits(0x3ff123456789abcd)
	tests := map[string]Batch{
		"heartbeat": {Stream: "edge-1/0011", First: 9, Last: 9},
		"integers": batchOf(sample("a/b", 1, reading("x", twin.IntValue(math.MinInt64))), sample("a/b", 2, reading("x", twin.IntValue(math.MaxInt64))),
			sample("a/b", 3, reading("x", twin.UintValue(math.MaxUint64))), sample("a/b", 4, reading("x", twin.IntValue(0)))),
		"floats": batchOf(sample("a/b", 1, reading("x", twin.FloatValue(math.MaxFloat64))), sample("a/b", 2, reading("x", twin.FloatValue(math.SmallestNonzeroFloat64))),
			sample("a/b", 3, reading("x", twin.FloatValue(-0.1))), sample("a/b", 4, reading("x", twin.FloatValue(odd))), sample("a/b", 5, reading("x", twin.FloatValue(1e22)))),
		"decimals":                 batchOf(sample("a/b", 1, reading("x", twin.FloatValue(20.5))), sample("a/b", 2, reading("x", twin.FloatValue(-20.525))), sample("a/b", 3, reading("x", twin.FloatValue(0)))),
		"large and small decimals": batchOf(sample("a/b", 1, reading("x", twin.FloatValue(9007199254740991))), sample("a/b", 2, reading("x", twin.FloatValue(0.001)))),
		"kinds that change": batchOf(sample("a/b", 1, reading("x", twin.BoolValue(true))), sample("a/b", 2, reading("x", twin.StringValue("é\x00\n"))),
			sample("a/b", 3, reading("x", twin.FloatValue(1))), sample("a/b", 4, reading("x", twin.IntValue(1))), sample("a/b", 5, reading("x", twin.BoolValue(false))), sample("a/b", 6, reading("x", twin.StringValue("")))),
		"qualities": batchOf(sample("a/b", 1, twin.BadReading("x", "timeout"), twin.Reading{Property: "y", Value: twin.IntValue(1), Quality: twin.Uncertain("stale")})),
		"devices in turn": batchOf(sample("a/b", 1, reading("x", twin.IntValue(1))), sample("a/c", 900, reading("x", twin.IntValue(1))),
			sample("a/b", 2, reading("x", twin.IntValue(1)), reading("y", twin.IntValue(1))), sample("a/c", 901, reading("x", twin.IntValue(1)))),
		"no readings":     batchOf(sample("a/b", 1)),
		"records missing": {Stream: "s", First: 1, Last: math.MaxUint64, Samples: []twin.Sample{sample("a/b", math.MaxUint64, reading("x", twin.IntValue(1)))}},
	}
	codec := NewCodec(1)
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := codec.Encode(&want)
			require.NoError(t, err)
			got, err := codec.Decode(data)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestRoundTripOfAnyBatch(t *testing.T) {
	codec := NewCodec(1)
	rapid.Check(t, func(t *rapid.T) {
		want := Batch{Stream: rapid.StringN(1, 20, MaxStream).Draw(t, "stream"), First: 5, Last: 5}
		want.Samples = rapid.SliceOfN(rapid.Custom(drawSample), 1, 30).Draw(t, "samples")
		want.Last = want.First + uint64(len(want.Samples)-1)
		data, err := codec.Encode(&want)
		require.NoError(t, err)
		got, err := codec.Decode(data)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func drawSample(t *rapid.T) twin.Sample {
	s := twin.Sample{
		Device: twin.DeviceID{Namespace: "ns", Name: rapid.SampledFrom([]string{"a", "b", "c-1"}).Draw(t, "device")},
		Epoch:  rapid.Uint64Min(1).Draw(t, "epoch"), Seq: rapid.Uint64Min(1).Draw(t, "seq"),
		Time: time.UnixMicro(rapid.Int64Range(0, 200_000_000_000_000_000).Draw(t, "time")).UTC(),
	}
	for _, name := range []string{"p", "q", "r"} {
		if rapid.Bool().Draw(t, "has") {
			s.Readings = append(s.Readings, drawReading(t, name))
		}
	}
	if s.Readings == nil {
		s.Readings = []twin.Reading{}
	}
	return s
}

func drawReading(t *rapid.T, name string) twin.Reading {
	r := twin.Reading{Property: name}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		r.Value = twin.BoolValue(rapid.Bool().Draw(t, "bool"))
	case 1:
		r.Value = twin.IntValue(rapid.Int64().Draw(t, "int"))
	case 2:
		r.Value = twin.UintValue(rapid.Uint64().Draw(t, "uint"))
	case 3:
		r.Value = twin.FloatValue(rapid.Float64().Draw(t, "float"))
	case 4:
		r.Value = twin.FloatValue(float64(rapid.IntRange(-99999, 99999).Draw(t, "hundredths")) / 100)
	case 5:
		r.Value = twin.StringValue(rapid.String().Draw(t, "string"))
	}
	if r.Value.IsZero() {
		r.Quality = twin.Bad("timeout")
	} else if rapid.IntRange(0, 3).Draw(t, "uncertain") == 0 {
		r.Quality = twin.Uncertain("stale")
	}
	return r
}

func TestEncodeRefusesBrokenSamples(t *testing.T) {
	good := func() Batch { return batchOf(sample("a/b", 1, reading("x", twin.IntValue(1)))) }
	tests := map[string]func(*Batch){
		"no stream":                func(b *Batch) { b.Stream = "" },
		"long stream":              func(b *Batch) { b.Stream = string(make([]byte, MaxStream+1)) },
		"numbers turned":           func(b *Batch) { b.First, b.Last = 9, 8 },
		"more samples than record": func(b *Batch) { b.Samples = append(b.Samples, b.Samples[0]) },
		"record zero":              func(b *Batch) { b.First = 0 },
		"heartbeat of many":        func(b *Batch) { b.Samples, b.Last = nil, 20 },
		"no epoch":                 func(b *Batch) { b.Samples[0].Epoch = 0 },
		"no time":                  func(b *Batch) { b.Samples[0].Time = time.Time{} },
		"late time":                func(b *Batch) { b.Samples[0].Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"value without kind":       func(b *Batch) { b.Samples[0].Readings[0].Value = twin.Value{} },
		"bad with value":           func(b *Batch) { b.Samples[0].Readings[0].Quality = twin.Bad("x") },
		"unsorted": func(b *Batch) {
			b.Samples[0].Readings = []twin.Reading{reading("b", twin.IntValue(1)), reading("a", twin.IntValue(1))}
		},
		"twice": func(b *Batch) {
			b.Samples[0].Readings = []twin.Reading{reading("b", twin.IntValue(1)), reading("b", twin.IntValue(1))}
		},
		"no name": func(b *Batch) { b.Samples[0].Readings[0].Property = "" },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			b := good()
			spoil(&b)
			_, err := NewCodec(1).Encode(&b)
			require.Error(t, err)
			require.NotErrorIs(t, err, ErrTooLarge)
		})
	}
}

func TestBoundsAtTheBound(t *testing.T) {
	codec := NewCodec(1)
	fill := func(n, width int) Batch {
		readings := make([]twin.Reading, width)
		for i := range readings {
			readings[i] = reading(fmt.Sprintf("p%04d", i), twin.IntValue(int64(i)))
		}
		b := Batch{Stream: "s", First: 1, Last: uint64(n)}
		for i := range n {
			b.Samples = append(b.Samples, sample("a/b", uint64(i+1), readings...))
		}
		return b
	}
	for _, tt := range []struct {
		name  string
		batch Batch
		fits  bool
	}{
		{"most samples", fill(MaxSamples, 1), true},
		{"one sample too many", fill(MaxSamples+1, 1), false},
		{"most readings", fill(MaxReadings/4096, 4096), true},
		{"one sample of readings too many", fill(MaxReadings/4096+1, 4096), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, err := codec.Encode(&tt.batch)
			if !tt.fits {
				require.ErrorIs(t, err, ErrTooLarge)
				return
			}
			require.NoError(t, err)
			got, err := codec.Decode(data)
			require.NoError(t, err)
			require.Len(t, got.Samples, len(tt.batch.Samples))
		})
	}
}

func TestEncodeRefusesWhatDoesNotCompress(t *testing.T) {
	noise := rapid.SliceOfN(rapid.Byte(), twin.MaxStringValue, twin.MaxStringValue).Example(1)
	b := Batch{Stream: "s", First: 1, Last: 200}
	for i := range 200 {
		for j := range noise {
			noise[j] = byte(uint32(noise[j])*167+uint32(i*j)>>3) & 0x7f
		}
		b.Samples = append(b.Samples, sample("a/b", uint64(i+1), reading("x", twin.StringValue(string(noise)))))
	}
	_, err := NewCodec(1).Encode(&b)
	require.ErrorIs(t, err, ErrTooLarge)
}

// pack makes an encoded batch of any plain content, with the announced size.
func pack(c *Codec, plain []byte, size int) []byte {
	out := append([]byte(magic), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(out[offPlain:], uint32(size))
	out = c.enc.EncodeAll(plain, out)
	binary.LittleEndian.PutUint32(out[offSum:], c.sum(out))
	return out
}

func TestDecodeRefuses(t *testing.T) {
	codec := NewCodec(1)
	good := batchOf(sample("a/b", 1, reading("x", twin.IntValue(1))))
	plain, err := appendPlain(nil, &good)
	require.NoError(t, err)
	big, err := zstd.NewWriter(nil, zstd.WithWindowSize(8<<20))
	require.NoError(t, err)
	wide := append([]byte(magic), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(wide[offPlain:], 4<<20)
	wide = big.EncodeAll(make([]byte, 4<<20), wide)
	binary.LittleEndian.PutUint32(wide[offSum:], codec.sum(wide))
	tests := map[string][]byte{
		"nothing":                nil,
		"another magic":          append([]byte("TWB2"), pack(codec, plain, len(plain))[4:]...),
		"announced too small":    pack(codec, plain, len(plain)-1),
		"announced too large":    pack(codec, plain, len(plain)+1),
		"announced beyond bound": pack(codec, plain, MaxPlain+1),
		"a bomb":                 pack(codec, make([]byte, MaxPlain+1), 100),
		"a window beyond bound":  wide,
		"bytes left over":        pack(codec, append(bytes.Clone(plain), 0), len(plain)+1),
		"beyond MaxEncoded":      make([]byte, MaxEncoded+1),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := codec.Decode(data)
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

func TestDecodeRefusesEveryFlippedBitAndEveryPrefix(t *testing.T) {
	codec := NewCodec(1)
	b := batchOf(sample("a/b", 1, reading("x", twin.FloatValue(1.5)), reading("y", twin.StringValue("on"))), sample("a/c", 1, twin.BadReading("x", "crc")))
	data, err := codec.Encode(&b)
	require.NoError(t, err)
	for i := range 8 * len(data) {
		data[i/8] ^= 1 << (i % 8)
		_, err := codec.Decode(data)
		require.ErrorIs(t, err, ErrCorrupt, "bit %d", i)
		data[i/8] ^= 1 << (i % 8)
	}
	for n := range data {
		_, err := codec.Decode(data[:n])
		require.ErrorIs(t, err, ErrCorrupt)
	}
}

// FuzzDecodePlain skips the checksum, so that the fuzzer reaches the content.
func FuzzDecodePlain(f *testing.F) {
	for _, b := range []Batch{
		{Stream: "s", First: 1, Last: 1},
		batchOf(sample("a/b", 1, reading("x", twin.FloatValue(1.5)), reading("y", twin.StringValue("on"))), sample("a/c", 1, twin.BadReading("x", "crc"))),
		batchOf(sample("a/b", 1, reading("x", twin.FloatValue(math.Pi)), reading("y", twin.UintValue(math.MaxUint64)), reading("z", twin.BoolValue(true)))),
	} {
		plain, err := appendPlain(nil, &b)
		require.NoError(f, err)
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := parsePlain(plain)
		if err != nil {
			return
		}
		again, err := appendPlain(nil, &b)
		require.NoError(t, err, "what decodes also encodes")
		c, err := parsePlain(again)
		require.NoError(t, err)
		require.Equal(t, b, c)
	})
}

func FuzzDecode(f *testing.F) {
	codec := NewCodec(1)
	b := batchOf(sample("a/b", 1, reading("x", twin.FloatValue(1.5))))
	data, err := codec.Encode(&b)
	require.NoError(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= headSize { // mend the checksum, so that zstd is reached
			data = bytes.Clone(data)
			copy(data, magic)
			binary.LittleEndian.PutUint32(data[offSum:], codec.sum(data))
		}
		_, _ = codec.Decode(data)
	})
}

// plantBatch is what a node with 20 devices of 12 properties sends in a minute.
func plantBatch() (b Batch, jsonSize int) {
	b = Batch{Stream: "edge-1/00112233445566778899aabbccddeeff", First: 1, Last: 1200}
	for second := range 60 {
		for d := range 20 {
			s := sample(fmt.Sprintf("plant/boiler-%02d", d), uint64(second+1))
			s.Time = s.Time.Add(time.Duration(d*1379+second*17%901) * time.Microsecond)
			for p := range 12 {
				phase := float64(second)/30 + float64(d*p)
				name := fmt.Sprintf("sensor-%02d", p)
				switch p % 4 {
				case 0:
					s.Readings = append(s.Readings, reading(name, twin.FloatValue(math.Round(200+30*math.Sin(phase)*10)/10)))
				case 1:
					s.Readings = append(s.Readings, reading(name, twin.IntValue(int64(100000+second*d))))
				case 2:
					s.Readings = append(s.Readings, reading(name, twin.BoolValue(second%20 < 10)))
				case 3:
					s.Readings = append(s.Readings, reading(name, twin.FloatValue(math.Sin(phase))))
				}
			}
			jsonSize += len(s.AppendJSON(nil))
			b.Samples = append(b.Samples, s)
		}
	}
	return b, jsonSize
}

func BenchmarkEncode(b *testing.B) {
	batch, size := plantBatch()
	codec := NewCodec(1)
	var data []byte
	for b.Loop() {
		data, _ = codec.Encode(&batch)
	}
	b.SetBytes(int64(size))
	b.ReportMetric(float64(size)/float64(len(data)), "json/batch")
	b.ReportMetric(float64(len(data))/float64(len(batch.Samples)), "B/sample")
}

func BenchmarkDecode(b *testing.B) {
	batch, size := plantBatch()
	codec := NewCodec(1)
	data, err := codec.Encode(&batch)
	require.NoError(b, err)
	b.SetBytes(int64(size))
	for b.Loop() {
		_, _ = codec.Decode(data)
	}
}

func TestBatchesAreMuchSmallerThanJSON(t *testing.T) {
	b, size := plantBatch()
	data, err := NewCodec(1).Encode(&b)
	require.NoError(t, err)
	require.Less(t, len(data), size/15)
}
