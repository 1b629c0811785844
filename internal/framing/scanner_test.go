package framing

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ms(n int) time.Time { return epoch().Add(time.Duration(n) * time.Millisecond) }

func TestTimes(t *testing.T) {
	s := NewScanner(formats()["lines"])
	s.Push([]byte("a"), ms(1))
	s.Push([]byte("b\r"), ms(2))
	s.Push([]byte("\nc"), ms(3))
	s.Push([]byte("\r\nd\r\n"), ms(3))
	s.Push([]byte("e\r\n"), ms(4))
	frames := drain(s)
	require.Equal(t, []string{"ab", "c", "d", "e"}, datas(frames))
	for i, want := range []struct{ start, began, at int }{{0, 1, 3}, {4, 3, 3}, {7, 3, 3}, {10, 4, 4}} {
		require.EqualValues(t, want.start, frames[i].Start)
		require.Equal(t, ms(want.began), frames[i].Began)
		require.Equal(t, ms(want.at), frames[i].At)
	}
	require.EqualValues(t, 13, s.Position())
}

func TestSilence(t *testing.T) {
	s := NewScanner(formats()["silence"])
	deadline := func(want int) {
		at, ok := s.Deadline()
		require.Equal(t, want > 0, ok)
		if ok {
			require.Equal(t, ms(want), at)
		}
	}
	deadline(0)
	s.Push([]byte("ab"), ms(0))
	s.Push([]byte("c"), ms(49))
	require.Empty(t, drain(s))
	deadline(99)
	s.Quiet(ms(98))
	require.Empty(t, drain(s))
	s.Quiet(ms(99))
	deadline(0) // it was told
	s.Push([]byte("d"), ms(99))
	require.Equal(t, []string{"abc"}, datas(drain(s)))
	s.Push([]byte("e"), ms(149)) // the gap is seen without Quiet
	s.Push([]byte("f"), ms(250))
	frames := drain(s)
	require.Equal(t, []string{"d", "e"}, datas(frames))
	require.Equal(t, ms(149), frames[1].At)
	deadline(300)
	s.Quiet(ms(1000))
	s.Quiet(ms(2000))
	require.Equal(t, []string{"f"}, datas(drain(s)))

	// Max is 32: one byte more loses all up to the next silence.
	s.Push(bytes.Repeat([]byte("x"), 32), ms(3000))
	s.Quiet(ms(3050))
	require.Len(t, drain(s), 1)
	s.Push(bytes.Repeat([]byte("x"), 33), ms(4000))
	require.Empty(t, drain(s))
	deadline(4050)
	s.Push([]byte("yy"), ms(4049))
	s.Push([]byte("z"), ms(4099))
	require.Empty(t, drain(s))
	s.Quiet(ms(4149))
	require.Equal(t, []string{"z"}, datas(drain(s)))
	require.Equal(t, Counters{Frames: 6, Oversize: 1, Skipped: 35}, s.Counters())
}

// TestGap has what a gap ends with the other kinds.
func TestGap(t *testing.T) {
	for _, c := range []struct{ name, format, before, behind, want string }{
		{"a line", "lines", "abc", "de\r\n", "de"},
		{"a line too long", "lines", strings.Repeat("x", 5000), "de\r\n", "de"},
		{"a frame", "dle", "\x10\x02abc", "de\x10\x03\x10\x02x\x10\x03", "x"},
		{"a frame behind a false length", "pms5003", "BM\x00\x38" + "BM\x00\x02\x00\x91", "", "BM\x00\x02\x00\x91"},
		{"a length that nothing marks", "length le", "\x20\x00abc", string(formatted("length le", "\x05\x00a....")), string(formatted("length le", "\x05\x00a...."))},
		{"a block", "fixed gap", "abcdef", "ghij", "abcd,ghij"},
		{"a start", "sml", "\x1b\x1b\x1b", string(formatted("sml", "a")), "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := formats()[c.format]
			config.Gap = 50 * time.Millisecond
			s := NewScanner(config)
			require.Equal(t, c.want, strings.Join(datas(play(s, []piece{{b: []byte(c.before)}, {[]byte(c.behind), pause}}, nil)), ","))
			config.Gap = 0
			if c.format != "fixed gap" {
				_, ok := NewScanner(config).Deadline()
				require.False(t, ok)
			}
		})
	}
}

func formatted(format, payload string) []byte {
	c := formats()[format]
	return c.Append(nil, []byte(payload))
}

// sized returns a payload whose frame has n bytes.
func sized(c *Config, n int) []byte {
	if c.Kind == Fixed || c.Kind == Length {
		b := bytes.Repeat([]byte("."), n)
		copy(b, c.Start)
		copy(b[n-len(c.End):], c.End)
		return b
	}
	for fill := byte('.'); ; fill++ { // until the check needs no escape
		b := bytes.Repeat([]byte{fill}, n-len(c.Start)-len(c.term()))
		for len(c.Append(nil, b)) > n {
			b = b[1:]
		}
		if len(c.Append(nil, b)) == n {
			return b
		}
	}
}

// TestMax has a frame of Max bytes, and one of a byte more, and a good one behind it.
func TestMax(t *testing.T) {
	for name, c := range formats() {
		if c.Kind == Fixed {
			continue
		}
		t.Run(name, func(t *testing.T) {
			long := c.Append(nil, sized(&c, 200))
			require.Len(t, long, 200)
			short := c.Append(nil, sized(&c, 40))
			stream := []piece{{b: long}, {short, pause}}
			c.Max = 200
			require.NoError(t, c.CanCarry(sized(&c, 200)))
			s := NewScanner(c)
			require.Len(t, play(s, stream, nil), 2)
			require.Zero(t, s.Counters().Oversize)
			c.Max = 199
			require.Error(t, c.CanCarry(sized(&c, 200)))
			for _, cut := range []func(int) int{nil, func(int) int { return 1 }} {
				s = NewScanner(c)
				frames := play(s, stream, cut)
				require.Len(t, frames, 1)
				require.Equal(t, short, frames[0].Raw)
				require.EqualValues(t, 1, s.Counters().Oversize)
				require.EqualValues(t, 200, s.Counters().Skipped)
			}
		})
	}
}

// TestWrongLength has every length that a field can say before a good frame.
func TestWrongLength(t *testing.T) {
	c := formats()["pms5003"]
	good := c.Append(nil, sized(&c, 32))
	for n := 0; n < 1<<16; n += 1 + n>>8*7 { // all that fit into Max, ever fewer of the others
		stream := append([]byte{'B', 'M', byte(n >> 8), byte(n)}, good...)
		stream = append(stream, make([]byte, c.Max-len(good)-4)...)
		s := NewScanner(c)
		s.Push(stream, epoch())
		require.Equal(t, []string{string(good)}, datas(drain(s)), n)
	}
}

// TestEndless has what bounds memory: a frame that never ends, and noise.
func TestEndless(t *testing.T) {
	for name, c := range formats() {
		t.Run(name, func(t *testing.T) {
			for _, lump := range []int{1, 1000} {
				s := NewScanner(c)
				at := epoch()
				feed := func(b []byte) {
					for part := range slices.Chunk(b, lump) {
						at = at.Add(time.Microsecond)
						s.Push(part, at)
						drain(s)
						if kept := len(s.buf) - s.head; kept > c.max() {
							t.Fatalf("%d bytes are kept", kept)
						}
					}
				}
				feed(c.Start)
				for range 10 {
					feed([]byte(strings.Repeat("(1.8.0*kWh)", 100)))
				}
				require.LessOrEqual(t, cap(s.buf), 4*(c.max()+lump))
				require.LessOrEqual(t, cap(s.marks.items), 4*(c.max()+lump))
				require.LessOrEqual(t, cap(s.plain), 4*(c.max()+lump))
				if c.Kind == Delimiter || c.Kind == Between || c.Kind == Silence {
					require.NotZero(t, s.Counters().Oversize)
				}
			}
		})
	}
}

// TestUnread has a reader that does not call Next.
func TestUnread(t *testing.T) {
	s := NewScanner(formats()["lines"])
	for range 1000 {
		s.Push([]byte("0123456789\r\n"), epoch())
		require.LessOrEqual(t, len(s.buf)-s.head, DefaultMax+12)
	}
	kept := len(drain(s))
	require.Greater(t, kept, 100)
	require.EqualValues(t, kept, s.Counters().Frames)
	require.EqualValues(t, (1000-kept)*12, s.Counters().Skipped)
}

// TestAdversary has streams in which everything looks like a frame. The work is bounded by
// workPerByte: what is looked at in vain is paid from a credit that only bytes that pass fill up.
func TestAdversary(t *testing.T) {
	for _, c := range []struct {
		name, format string
		unit         []byte
		max          int
	}{
		{"starts", "nmea", append(bytes.Repeat([]byte("$"), 4000), "*00\r\n"...), 0},
		{"starts, long frames", "nmea", append(bytes.Repeat([]byte("$"), 65000), "*00\r\n"...), MaxFrame},
		{"starts without end", "nmea", bytes.Repeat([]byte("$"), 1000), 0},
		{"escaped starts", "prefix start", bytes.Repeat([]byte("<"), 1000), 0},
		{"lengths", "length le", bytes.Repeat([]byte{0xf0, 0xf0}, 500), MaxFrame},
		{"lengths that fit", "length le", bytes.Repeat([]byte{0x02}, 1000), 600},
		{"blocks", "fixed", make([]byte, 1000), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := formats()[c.format]
			config.Max = c.max
			s := NewScanner(config)
			for range 100 {
				s.Push(c.unit, epoch())
				drain(s)
				require.GreaterOrEqual(t, s.credit, -s.max)
			}
			if len(config.Start) == 0 {
				return
			}
			good := config.Append(nil, sized(&config, 40))
			for range 3 * s.max / len(good) {
				s.Push(good, epoch())
			}
			require.NotEmpty(t, drain(s))
		})
	}
}

// TestResync has kinds that nothing marks: the check finds the place again.
func TestResync(t *testing.T) {
	for _, c := range []struct{ format, payload string }{{"fixed", "abcde."}, {"length le", "\x0c\x00abcdefgh...."}} {
		config := formats()[c.format]
		good := config.Append(nil, []byte(c.payload))
		s := NewScanner(config)
		stream := slices.Concat(good, good, []byte("\x01"), good, good[3:], good, good)
		require.GreaterOrEqual(t, len(scan(s, stream)), 4, c.format)
		require.EqualValues(t, 2, s.Counters().Damaged+s.Counters().Oversize, "once for each loss")
	}
}

// TestStartInTwo has a Start that one Push begins, behind noise, and the next ends.
func TestStartInTwo(t *testing.T) {
	for _, format := range []string{"pms5003", "sds011", "sml", "dle"} {
		c := formats()[format]
		n := 40
		if c.Kind == Fixed {
			n = c.Size
		}
		frame := c.Append(nil, sized(&c, n))
		for i := 1; i < len(frame); i++ {
			s := NewScanner(c)
			pieces := []piece{{b: append([]byte("noise"), frame[:i]...)}, {b: frame[i:]}}
			require.Len(t, play(s, pieces, nil), 1, "%s, %d bytes first", format, i)
			require.EqualValues(t, 5, s.Counters().Skipped)
		}
	}
}

func TestReset(t *testing.T) {
	c := formats()["lines"]
	c.Gap = time.Second
	s := NewScanner(c)
	s.Push([]byte("abc"), ms(0))
	s.Reset()
	_, ok := s.Deadline()
	require.False(t, ok)
	s.Push([]byte("de\r\n"), ms(5))
	frames := drain(s)
	require.Equal(t, []string{"de"}, datas(frames))
	require.EqualValues(t, 3, frames[0].Start)
	require.EqualValues(t, 7, s.Position())
	require.EqualValues(t, 3, s.Counters().Skipped)
	s.Push(bytes.Repeat([]byte("x"), 5000), ms(6))
	require.Empty(t, drain(s))
	s.Reset()
	s.Push([]byte("f\r\n"), ms(7))
	require.Equal(t, []string{"f"}, datas(drain(s)))
}

func TestScannerWithProblems(t *testing.T) {
	s := NewScanner(Config{Kind: Delimiter})
	require.Empty(t, scan(s, []byte("abc")))
	require.EqualValues(t, 3, s.Position())
	require.EqualValues(t, 3, s.Counters().Skipped)
	s.Reset()
	_, ok := s.Deadline()
	require.False(t, ok)
}

// TestSlicesLast makes sure that frames stay as they are until the next Push.
func TestSlicesLast(t *testing.T) {
	c := formats()["slip"]
	s := NewScanner(c)
	var stream []byte
	for i := range 100 {
		stream = c.Append(stream, fmt.Appendf(nil, "\xc0%d\xdb", i))
	}
	s.Push(stream, epoch())
	var frames []Frame
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		frames = append(frames, f)
	}
	require.Len(t, frames, 100)
	for i, f := range frames {
		require.Equal(t, fmt.Sprintf("\xc0%d\xdb", i), string(f.Data))
		require.Equal(t, c.Append(nil, f.Data), f.Raw)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	for name, c := range formats() {
		t.Run(name, func(t *testing.T) {
			if c.Kind == Silence {
				return
			}
			n := min(40, c.max())
			if c.Kind == Fixed {
				n = c.Size
			}
			frame := c.Append(nil, sized(&c, n))
			s := NewScanner(c)
			run := func() {
				for i := range frame {
					s.Push(frame[i:i+1], epoch().Add(time.Duration(i)))
				}
				_, ok := s.Next()
				require.True(t, ok)
			}
			run()
			frames := s.Counters().Frames
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				for i := range frame {
					s.Push(frame[i:i+1], ms(i))
					s.Next()
				}
			}))
			require.Greater(t, s.Counters().Frames, frames+1000)
		})
	}
}
