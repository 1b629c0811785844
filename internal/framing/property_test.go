package framing

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/checksum"
)

// pause is longer than every Gap of the tests.
const pause = time.Second

// piece is a part of a stream that came at once; after says how quiet it was before.
type piece struct {
	b     []byte
	after time.Duration
}

// play pushes pieces; cut says how each is split further, nil not at all.
func play(s *Scanner, pieces []piece, cut func(left int) int) []Frame {
	var frames []Frame
	now := epoch()
	for _, p := range pieces {
		now = now.Add(p.after)
		b := p.b
		for len(b) > 0 {
			n := len(b)
			if cut != nil {
				n = cut(n)
			}
			s.Push(b[:n], now)
			frames = append(frames, drain(s)...)
			b = b[n:]
		}
	}
	s.Quiet(now.Add(pause))
	return append(frames, drain(s)...)
}

func drawFormat(t *rapid.T) Config {
	all := formats()
	return all[rapid.SampledFrom(slices.Sorted(maps.Keys(all))).Draw(t, "format")]
}

// drawSeq draws bytes of a small alphabet, so that they coincide often.
func drawSeq(least, most int) *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0x00, 0x10, 0x10, 0x1b, 0x41, 0x7d, 0x7e, 0xc0, 0xdb, '0', 'A'}), least, most)
}

// drawConfig draws any Config that has no problems.
func drawConfig(t *rapid.T) Config {
	names := []string{"sum8", "xor8", "sum16", "crc-16/modbus", "crc-12/dect", "crc-32"}
	return rapid.Custom(func(t *rapid.T) Config {
		c := Config{Kind: rapid.SampledFrom([]Kind{Delimiter, Between, Fixed, Length, Silence}).Draw(t, "kind"), Max: rapid.IntRange(1, 40).Draw(t, "max")}
		if rapid.Bool().Draw(t, "gap") || c.Kind == Silence {
			c.Gap = 50 * time.Millisecond
		}
		terms := c.Kind == Delimiter || c.Kind == Between
		if c.Kind != Silence && (c.Kind == Between || rapid.Bool().Draw(t, "with start")) {
			c.Start = drawSeq(1, 3).Draw(t, "start")
		}
		switch c.Kind {
		case Delimiter:
			c.Delimiter = drawSeq(1, 3).Draw(t, "delimiter")
		case Between:
			c.End = drawSeq(1, 3).Draw(t, "end")
		case Fixed:
			c.Size = rapid.IntRange(1, c.Max).Draw(t, "size")
			c.End = drawSeq(0, 1).Draw(t, "end")
		case Length:
			c.Offset, c.Width = rapid.IntRange(0, 4).Draw(t, "offset"), rapid.IntRange(1, 4).Draw(t, "width")
			c.Little, c.Adjust = rapid.Bool().Draw(t, "little"), rapid.IntRange(-2, 8).Draw(t, "adjust")
			c.End = drawSeq(0, 1).Draw(t, "end")
		}
		if terms {
			c.After = rapid.IntRange(0, 5).Draw(t, "after")
			if c.Kind == Between && c.After > 1 && rapid.Bool().Draw(t, "sep") {
				c.AfterDelimiter = drawSeq(1, 2).Draw(t, "after delimiter")
			}
			switch c.Escape.Mode = rapid.SampledFrom([]Mode{None, None, Double, Double, Prefix, SLIP, HDLC}).Draw(t, "mode"); c.Escape.Mode {
			case Double:
				c.Escape.With = bytes.Repeat([]byte{0x10}, rapid.IntRange(1, 4).Draw(t, "times"))
				c.Delimiter, c.End = prefixed(c.Escape.With, c.Delimiter), prefixed(c.Escape.With, c.End)
				if rapid.Bool().Draw(t, "start too") {
					c.Start = prefixed(c.Escape.With, c.Start)
				}
			case Prefix:
				c.Escape.With = []byte{0xdb}
			case SLIP, HDLC:
				end := map[Mode][]byte{SLIP: {slipEnd}, HDLC: {hdlcFlag}}[c.Escape.Mode]
				if c.Kind == Between {
					c.End = end
				} else {
					c.Delimiter = end
				}
			}
			c.Restart = rapid.IntRange(0, 3).Draw(t, "restart") == 0
		}
		if rapid.IntRange(0, 3).Draw(t, "check") > 0 {
			c.Check = &Check{
				Algorithm: algorithm(rapid.SampledFrom(names).Draw(t, "algorithm")),
				From:      rapid.IntRange(-2, 4).Draw(t, "from"), At: rapid.IntRange(-14, 6).Draw(t, "at"),
				Encoding: rapid.SampledFrom([]Encoding{Binary, Binary, Hex, Decimal}).Draw(t, "encoding"),
				Little:   rapid.Bool().Draw(t, "check little"), SevenBit: rapid.Bool().Draw(t, "seven"),
				Mark: drawSeq(0, 1).Draw(t, "mark"),
			}
			if rapid.Bool().Draw(t, "edge") {
				c.Check.At = -(c.Check.size() + len(c.term()) + c.After)
			}
		}
		return c
	}).Filter(func(c Config) bool { return len(c.Problems()) == 0 }).Draw(t, "config")
}

func prefixed(with, seq []byte) []byte {
	if len(seq) == 0 {
		return seq
	}
	return append(append([]byte(nil), with...), seq...)
}

// drawPayload draws what c can carry.
func drawPayload(t *rapid.T, c *Config) ([]byte, bool) {
	size := rapid.IntRange(1, min(c.max(), 60)).Draw(t, "size")
	if c.Kind == Fixed {
		size = c.Size
	}
	payload := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), size, size), drawSeq(size, size)).Draw(t, "payload")
	if c.Kind == Fixed || c.Kind == Length {
		copy(payload, c.Start)
		copy(payload[max(0, len(payload)-len(c.End)):], c.End)
	}
	return payload, c.CanCarry(payload) == nil
}

// drawPieces draws good frames, damaged ones, noise and silence.
func drawPieces(t *rapid.T, c *Config) []piece {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) piece {
		var p piece
		if rapid.IntRange(0, 3).Draw(t, "quiet") == 0 {
			p.after = pause
		}
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			p.b = rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 80), drawSeq(0, 80)).Draw(t, "noise")
		case 1:
			p.b = bytes.Repeat(append(append([]byte(nil), c.Start...), drawSeq(0, 2).Draw(t, "seq")...), rapid.IntRange(1, 20).Draw(t, "times"))
		default:
			payload, _ := drawPayload(t, c)
			p.b = c.Append(nil, payload)
			if len(p.b) > 0 && rapid.IntRange(0, 2).Draw(t, "damage") == 0 {
				i := rapid.IntRange(0, len(p.b)-1).Draw(t, "byte")
				p.b[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				p.b = p.b[:rapid.IntRange(0, len(p.b)).Draw(t, "cut")]
			}
		}
		return p
	}), 0, 8).Draw(t, "pieces")
}

// TestSplits is the property that matters most: in which lumps bytes come changes nothing.
func TestSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Config
		if rapid.Bool().Draw(t, "known") {
			c = drawFormat(t)
		} else {
			c = drawConfig(t)
		}
		pieces := drawPieces(t, &c)
		whole, bytewise, random := NewScanner(c), NewScanner(c), NewScanner(c)
		want := play(whole, pieces, nil)
		require.Equal(t, want, play(bytewise, pieces, func(int) int { return 1 }))
		require.Equal(t, want, play(random, pieces, func(left int) int { return rapid.IntRange(1, left).Draw(t, "split") }))
		require.Equal(t, whole.Counters(), bytewise.Counters())
		require.Equal(t, whole.Counters(), random.Counters())
		var stream []byte
		for _, p := range pieces {
			stream = append(stream, p.b...)
		}
		verify(t, &c, stream, want)
		require.GreaterOrEqual(t, whole.credit, -whole.max)
	})
}

// verify checks frames against the stream, with other code than the scanner's.
func verify(t require.TestingT, c *Config, stream []byte, frames []Frame) {
	var end uint64
	for _, f := range frames {
		require.GreaterOrEqual(t, f.Start, end, "frames overlap")
		end = f.Start + uint64(len(f.Raw))
		require.LessOrEqual(t, len(f.Raw), c.max())
		require.NotEmpty(t, f.Raw)
		require.Equal(t, stream[f.Start:end], f.Raw)
		require.True(t, bytes.HasPrefix(f.Raw, c.Start))
		require.False(t, f.At.Before(f.Began))
		if k := c.Check; k != nil {
			naiveCheck(t, c, f.Raw)
		}
	}
}

// naivePlain unescapes a raw frame byte for byte.
func naivePlain(c *Config, raw []byte) []byte {
	var plain []byte
	e := c.Escape
	for i := 0; i < len(raw); {
		rest := raw[i:]
		switch {
		case i < len(c.Start):
			plain = append(plain, raw[i])
		case e.Mode == SLIP && bytes.HasPrefix(rest, []byte{0xdb, 0xdc}):
			plain = append(plain, 0xc0)
			i++
		case e.Mode == SLIP && bytes.HasPrefix(rest, []byte{0xdb, 0xdd}):
			plain = append(plain, 0xdb)
			i++
		case e.Mode == HDLC && rest[0] == 0x7d:
			plain = append(plain, rest[1]^0x20)
			i++
		case e.Mode == Prefix && rest[0] == e.With[0]:
			plain = append(plain, rest[1])
			i++
		case e.Mode == Double && bytes.HasPrefix(rest, slices.Concat(e.With, e.With)):
			plain = append(plain, e.With...)
			i += 2*len(e.With) - 1
		case e.Mode != None && bytes.HasPrefix(rest, c.term()):
			return append(plain, rest...) // what is behind is never escaped
		default:
			plain = append(plain, rest[0])
		}
		i++
	}
	return plain
}

func naiveCheck(t require.TestingT, c *Config, raw []byte) {
	plain := naivePlain(c, raw)
	k := c.Check
	at := func(i int) int {
		if i < 0 {
			return i + len(plain)
		}
		return i
	}
	stands := plain[at(k.At) : at(k.At)+k.size()]
	var got uint64
	switch k.Encoding {
	case Decimal:
		got, _ = strconv.ParseUint(string(stands), 10, 64)
	case Hex:
		stands = unhex(string(stands))
		fallthrough
	default:
		for i := range stands {
			b := stands[i]
			if k.Little {
				b = stands[len(stands)-1-i]
			}
			got = got<<8 + uint64(b)
		}
	}
	to := at(k.To)
	if k.To == 0 {
		to = at(k.At) - len(k.Mark)
		if at(k.From) > to {
			to = len(plain)
		}
	}
	covered := append([]byte(nil), plain[at(k.From):to]...)
	for i := range covered {
		if k.SevenBit {
			covered[i] %= 128
		}
	}
	a, ok := checksum.Find(k.Algorithm.Name())
	require.True(t, ok)
	want := a.Sum(covered)
	if k.Mask != 0 {
		want, got = want&k.Mask, got&k.Mask
	}
	require.Equal(t, want, got)
}

// expected is the Data of the frame that Append makes of a payload.
func expected(c *Config, payload []byte) []byte {
	switch {
	case c.Kind == Fixed || c.Kind == Length:
		return c.Append(nil, payload)
	case c.Kind == Delimiter && c.Escape.Mode == None:
		return bytes.TrimSuffix(payload, c.Delimiter)
	}
	return payload
}

// inside tells whether the check is written over a part of the payload.
func inside(c *Config, payload []byte) bool {
	return c.Check != nil && c.Kind != Fixed && c.Kind != Length &&
		!bytes.Contains(naivePlain(c, c.Append(nil, payload)), payload)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		payload, ok := drawPayload(t, &c)
		if !ok || inside(&c, payload) || c.Kind == Delimiter && len(expected(&c, payload)) == 0 {
			return
		}
		frame := c.Append([]byte("before"), payload)
		require.Equal(t, "before", string(frame[:6]))
		s := NewScanner(c)
		frames := scan(s, frame[6:])
		require.Len(t, frames, 1)
		require.Equal(t, expected(&c, payload), frames[0].Data)
		require.Equal(t, frame[6:], frames[0].Raw)
	})
}

// TestEscapedCarriesAll makes sure that CanCarry is not what makes the round trip good.
func TestEscapedCarriesAll(t *testing.T) {
	for name, c := range formats() {
		if c.Escape.Mode == None {
			continue
		}
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				payload := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 200), drawSeq(1, 200)).Draw(t, "payload")
				require.NoError(t, c.CanCarry(payload))
				require.Equal(t, []string{string(payload)}, datas(scan(NewScanner(c), c.Append(nil, payload))))
			})
		})
	}
}

// TestAllGoodFramesAreFound puts noise that can begin no frame around good frames. Only frames that have a Start can
// promise that; the others are damaged by what comes right before.
func TestAllGoodFramesAreFound(t *testing.T) {
	for name, c := range formats() {
		if len(c.Start) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var stream []byte
				var want []string
				noise := rapid.SliceOfN(rapid.Byte().Filter(func(b byte) bool { return b != c.Start[0] }), 0, 100)
				for range rapid.IntRange(1, 6).Draw(t, "frames") {
					stream = append(stream, noise.Draw(t, "noise")...)
					if payload, ok := drawPayload(t, &c); ok && len(payload) > 0 && len(expected(&c, payload)) > 0 {
						stream = c.Append(stream, payload)
						want = append(want, string(expected(&c, payload)))
					}
				}
				stream = append(stream, noise.Draw(t, "noise")...)
				s := NewScanner(c)
				require.Equal(t, want, datas(scan(s, stream)))
				require.Zero(t, s.Counters().Damaged)
			})
		})
	}
}

func FuzzScanner(f *testing.F) {
	names := slices.Sorted(maps.Keys(formats()))
	for i, name := range names {
		c := formats()[name]
		f.Add(uint8(i), uint8(3), c.Append(nil, slices.Concat(c.Start, []byte("0123456789"), c.End)))
		f.Add(uint8(i), uint8(1), bytes.Repeat(c.Start, 20))
	}
	f.Fuzz(func(t *testing.T, which, lump uint8, b []byte) {
		c := formats()[names[int(which)%len(names)]]
		whole, parts := NewScanner(c), NewScanner(c)
		want := play(whole, []piece{{b: b}}, nil)
		got := play(parts, []piece{{b: b}}, func(left int) int { return min(left, 1+int(lump)) })
		require.Equal(t, want, got)
		require.Equal(t, whole.Counters(), parts.Counters())
		require.LessOrEqual(t, len(whole.buf)-whole.head, c.max())
		verify(t, &c, b, want)
	})
}

func FuzzAppend(f *testing.F) {
	names := slices.Sorted(maps.Keys(formats()))
	for i := range names {
		f.Add(uint8(i), []byte("GPGGA,1*\r\n"))
		f.Add(uint8(i), unhex("1B1B1B1B1B10 1002 1003 C0DB7D7E 68AAC016AB"))
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		c := formats()[names[int(which)%len(names)]]
		frame := c.Append(nil, payload)
		if c.CanCarry(payload) != nil || c.Kind == Delimiter && len(expected(&c, payload)) == 0 {
			return
		}
		require.LessOrEqual(t, len(frame), c.max())
		frames := scan(NewScanner(c), frame)
		require.Len(t, frames, 1)
		require.Equal(t, string(expected(&c, payload)), string(frames[0].Data))
		require.Equal(t, frame, frames[0].Raw)
		verify(t, &c, frame, frames)
	})
}
