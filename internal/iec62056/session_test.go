package iec62056

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/telegram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// meter is a scripted meter. It hears only what is sent at its own rate.
type meter struct {
	address string
	ident   string
	data    string // the data message, framed or not
	start   int    // the rate it signs on at
	rate    int    // the one it has now
	open    bool   // the option select message may come

	muteAt   string // "ident", "data" or "repeat": where it says nothing
	damaged  int    // how many data messages go out damaged
	answer   string // what it says to the option select message, instead of data
	deaf     bool   // it does not understand the option select message
	stays    bool   // it does, but for the rate
	mode     Mode   // other than its identification says
	patience int    // how many silences it waits for one, before it sends at the start rate
	noise    string // what comes before every message
	echo     bool   // the line returns what was sent

	out []byte // not yet received
	at  int    // the rate of out
}

func (m *meter) say(text string) {
	if m.at != m.rate {
		m.out = nil // a change of the rate is after everything said
	}
	m.out, m.at = append(append(m.out, m.noise...), text...), m.rate
}

func (m *meter) sayData() {
	if m.muteAt == "data" {
		return
	}
	text := m.data
	if m.damaged > 0 {
		m.damaged--
		text = strings.Replace(text, "1", "7", 1)
	}
	m.say(text)
}

func (m *meter) hear(b string, rate int) {
	if m.echo {
		m.out, m.at = append(m.out, b...), rate
	}
	if rate != m.rate {
		return
	}
	switch {
	case strings.HasPrefix(b, "/?"):
		m.signOn(strings.TrimSuffix(b[2:], "!\r\n"))
	case b == "\x15" && m.muteAt != "repeat":
		m.sayData()
	case b[0] == ack && len(b) == 6 && m.open && !m.deaf:
		m.open = false
		if m.answer != "" {
			m.say(m.answer)
			return
		}
		if !m.stays {
			m.rate = baudOf(b[2], '0', 300, 7)
		}
		m.sayData()
	}
}

func (m *meter) signOn(address string) {
	if address != "" && address != m.address || m.muteAt == "ident" {
		return
	}
	m.say("/" + m.ident + "\r\n")
	id, _ := ParseIdentification([]byte("/" + m.ident))
	if m.mode != "" {
		id.Mode = m.mode
	}
	switch id.Mode {
	case ModeA:
		m.sayData()
	case ModeB:
		m.rate = id.Baud
	case ModeC:
		m.open = true
	}
}

// silence is the time-out of the meter's own.
func (m *meter) silence() {
	if !m.open {
		return
	}
	if m.patience--; m.patience == 0 {
		m.open = false
		m.sayData()
	}
}

// line is the line between a Session and a meter.
type line struct {
	*testing.T
	*meter
	rate  int
	fixed bool
	fails map[string]error // of SetBaud (by rate), Send, Receive
	heard time.Time        // when a message was received last
	sent  []string
	rates []int
}

func (l *line) Send(_ context.Context, b []byte) error {
	if !l.heard.IsZero() {
		require.GreaterOrEqual(l, time.Since(l.heard), 200*time.Millisecond, "the meter is still turning around")
		require.LessOrEqual(l, time.Since(l.heard), 1500*time.Millisecond)
	}
	l.sent = append(l.sent, string(b))
	l.hear(string(b), l.rate)
	return l.fails["Send"]
}

func (l *line) Receive(ctx context.Context, timeout time.Duration, done func([]byte) int) ([]byte, error) {
	if err := l.fails["Receive"]; err != nil {
		return nil, err
	}
	if l.ident != "" && strings.HasPrefix(l.sent[len(l.sent)-1], "/?") && l.meter.rate != l.meter.start && len(l.out) == 0 {
		l.sayData() // mode B: the rate has been changed since the identification
	}
	for n := 1; n <= len(l.out); n++ {
		if size := done(bytes.Clone(l.garbled(n))); size > 0 {
			got := bytes.Clone(l.garbled(n)[:size])
			l.out = l.out[size:]
			l.heard = time.Now()
			return got, nil
		}
	}
	select {
	case <-time.After(timeout):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	got := l.garbled(len(l.out))
	l.out, l.heard = nil, time.Time{}
	l.silence()
	return got, nil
}

// garbled is what the first n bytes look like at the line's rate.
func (l *line) garbled(n int) []byte {
	if l.at == l.rate {
		return l.out[:n]
	}
	return bytes.Repeat([]byte{0x7E}, n)
}

func (l *line) SetBaud(_ context.Context, baud int) error {
	l.rates = append(l.rates, baud)
	if l.fixed {
		return ErrFixed
	}
	if err := l.fails["SetBaud"]; err != nil && baud != l.rate {
		return err
	}
	l.rate = baud
	return nil
}

// isk is a meter of mode C that can do 9600 baud.
func isk() *meter {
	return &meter{address: "00001234", ident: "ISk5MT174-0001", data: framed(mt174), start: 300, rate: 300}
}

func as(ident, data string) *meter {
	m := isk()
	m.ident, m.data = ident, data
	return m
}

func with(change func(*meter)) *meter {
	m := isk()
	change(m)
	return m
}

// readout runs one readout; the line is at the start rate afterwards, whatever happens.
func readout(t *testing.T, s Session, m *meter) (telegram.Telegram, *line, error) {
	l := &line{T: t, meter: m, rate: 300}
	got, err := s.Readout(t.Context(), l)
	require.Equal(t, s.withDefaults().StartBaud, l.rate)
	return got, l, err
}

func TestReadout(t *testing.T) {
	bare := strings.TrimPrefix(q3d, "/ESY5Q3DA1004 V3.04\r\n")
	for name, test := range map[string]struct {
		session Session
		meter   *meter
		sent    string
		rates   []int
		fields  int
	}{
		"mode C":                     {Session{}, isk(), "/?!\r\n|\x06050\r\n", []int{300, 9600, 300}, 6},
		"mode C, asked for":          {Session{Mode: ModeC, Address: "00001234"}, isk(), "/?00001234!\r\n|\x06050\r\n", []int{300, 9600, 300}, 6},
		"mode C, slower":             {Session{MaxBaud: 2400}, isk(), "/?!\r\n|\x06030\r\n", []int{300, 2400, 300}, 6},
		"mode C, a rate between":     {Session{MaxBaud: 5000}, isk(), "/?!\r\n|\x06040\r\n", []int{300, 4800, 300}, 6},
		"mode C, not faster":         {Session{MaxBaud: 300}, isk(), "/?!\r\n|\x06000\r\n", []int{300}, 6},
		"mode C, 300 is all":         {Session{}, as("LGZ0ZMD", framed(zmd)), "/?!\r\n|\x06000\r\n", []int{300}, 14},
		"mode C and E":               {Session{}, as("LGZ6\\2ZMD", framed(zmd)), "/?!\r\n|\x06060\r\n", []int{300, 19200, 300}, 14},
		"mode C, an echo":            {Session{}, with(func(m *meter) { m.echo = true }), "/?!\r\n|\x06050\r\n", []int{300, 9600, 300}, 6},
		"mode C, noise":              {Session{}, with(func(m *meter) { m.noise = "\x00/?\x7F" }), "/?!\r\n|\x06050\r\n", []int{300, 9600, 300}, 6},
		"mode C, repeated":           {Session{}, with(func(m *meter) { m.damaged = 1 }), "/?!\r\n|\x06050\r\n|\x15", []int{300, 9600, 300}, 6},
		"mode C, repeated twice":     {Session{}, with(func(m *meter) { m.damaged = maxRepeats }), "/?!\r\n|\x06050\r\n|\x15|\x15", []int{300, 9600, 300}, 6},
		"mode C, option lost":        {Session{}, with(func(m *meter) { m.deaf, m.patience = true, 1 }), "/?!\r\n|\x06050\r\n", []int{300, 9600, 300}, 6},
		"mode C, the rate stays":     {Session{}, with(func(m *meter) { m.stays = true }), "/?!\r\n|\x06050\r\n|\x15|\x15", []int{300, 9600, 300}, 6},
		"mode A":                     {Session{}, as("XYZ METER", bare), "/?!\r\n", []int{300}, 4},
		"mode A, check character":    {Session{}, as("XYZ METER", framed(mt174)), "/?!\r\n", []int{300}, 6},
		"mode A, asked for":          {Session{Mode: ModeA}, with(func(m *meter) { m.mode = ModeA }), "/?!\r\n", []int{300}, 6},
		"mode B":                     {Session{}, as("LUGCUH50", framed(t550)), "/?!\r\n", []int{300, 2400, 300}, 7},
		"mode B, no check character": {Session{Mode: ModeB}, as("LUGCUH50", t550), "/?!\r\n", []int{300, 2400, 300}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, l, err := readout(t, test.session, test.meter)
				require.NoError(t, err)
				require.Len(t, got.Fields, test.fields)
				require.Equal(t, test.sent, strings.Join(l.sent, "|"))
				require.Equal(t, test.rates, l.rates)
			})
		})
	}
}

func TestReadoutFails(t *testing.T) {
	broken := errors.New("unplugged")
	for name, test := range map[string]struct {
		session Session
		meter   *meter
		is      error
		says    string
		sent    string
	}{
		"nobody":                   {Session{}, &meter{}, ErrSilent, `read out meter "": sign-on: no answer`, "/?!\r\n"},
		"another meter":            {Session{Address: "99"}, isk(), ErrSilent, `read out meter "99": sign-on: no answer`, "/?99!\r\n"},
		"an echo and nobody":       {Session{}, with(func(m *meter) { m.echo, m.muteAt = true, "ident" }), ErrSilent, "sign-on: no answer", "/?!\r\n"},
		"noise for identification": {Session{}, with(func(m *meter) { m.ident = "?\x7F?" }), ErrDamaged, "is no identification", "/?!\r\n"},
		"endless noise":            {Session{}, with(func(m *meter) { m.noise = strings.Repeat("/", maxSignOn) }), ErrDamaged, "is no identification", "/?!\r\n"},
		"silence for data":         {Session{}, with(func(m *meter) { m.muteAt = "data" }), ErrSilent, "no answer", "/?!\r\n|\x06050\r\n|\x15"},
		"silence at 300":           {Session{MaxBaud: 300}, with(func(m *meter) { m.muteAt = "data" }), ErrSilent, "no answer", "/?!\r\n|\x06000\r\n"},
		"always damaged":           {Session{}, with(func(m *meter) { m.damaged = 9 }), ErrDamaged, "the block check character is", "/?!\r\n|\x06050\r\n|\x15|\x15"},
		"damaged, then silence":    {Session{}, with(func(m *meter) { m.damaged, m.muteAt = 1, "repeat" }), ErrDamaged, "the block check character is", "/?!\r\n|\x06050\r\n|\x15"},
		"cut off":                  {Session{MaxBaud: 300}, with(func(m *meter) { m.data = m.data[:50] }), ErrDamaged, "no ETX", "/?!\r\n|\x06000\r\n|\x15|\x15"},
		"no STX in mode C":         {Session{MaxBaud: 300}, with(func(m *meter) { m.data = mt174 }), ErrDamaged, "no STX", "/?!\r\n|\x06000\r\n|\x15|\x15"},
		"STX lost in mode A":       {Session{}, as("XYZ METER", framed(mt174)[1:]), ErrDamaged, "data message", "/?!\r\n|\x15|\x15"},
		"bare and damaged":         {Session{}, as("XYZ METER", "1.8.0(1\r\n!\r\n"), ErrDamaged, "has no end", "/?!\r\n|\x15|\x15"},
		"option refused":           {Session{MaxBaud: 300}, with(func(m *meter) { m.answer = "\x15" }), ErrRefused, "NAK", ""},
		"break":                    {Session{MaxBaud: 300}, with(func(m *meter) { m.answer = "\x01B0\x03q" }), ErrRefused, "breaks the session off", ""},
		"error message":            {Session{MaxBaud: 300}, with(func(m *meter) { m.answer = framed("(ER07)") }), ErrRefused, `answers "(ER07)"`, ""},
		"whole and no data":        {Session{MaxBaud: 300}, with(func(m *meter) { m.data = framed("what?\r\n!\r\n") }), ErrFormat, `"what?" is no data set`, "/?!\r\n|\x06000\r\n"},
		"mode B wanted":            {Session{Mode: ModeB}, isk(), ErrRefused, "the meter says rate '5', which is not of mode b", "/?!\r\n"},
		"mode C wanted":            {Session{Mode: ModeC}, as("LUGCUH50", framed(t550)), ErrRefused, "rate 'C'", "/?!\r\n"},
		"mode B too fast":          {Session{MaxBaud: 1200}, as("LUGCUH50", framed(t550)), ErrRefused, "2400 baud, more than the 1200 allowed", "/?!\r\n"},
		"session":                  {Session{Mode: "d"}, isk(), nil, `mode "d"; use auto, a, b or c`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, l, err := readout(t, test.session, test.meter)
				require.Error(t, err)
				require.Empty(t, got)
				require.ErrorContains(t, err, test.says)
				for _, kind := range []error{ErrSilent, ErrDamaged, ErrRefused} {
					require.Equal(t, errors.Is(test.is, kind), errors.Is(err, kind), "%v of %v", kind, err)
				}
				if test.is != nil {
					require.ErrorIs(t, err, test.is)
				}
				if test.sent != "" {
					require.Equal(t, strings.Trim(test.sent, "-"), strings.Join(l.sent, "|"))
				}
			})
		})
	}
	for _, where := range []string{"Send", "Receive", "SetBaud"} {
		t.Run(where+" fails", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &line{T: t, meter: isk(), rate: 300, fails: map[string]error{where: broken}}
				_, err := Session{}.Readout(t.Context(), l)
				require.ErrorIs(t, err, broken)
			})
		})
	}
}

// A fixed line keeps its rate: the meter is asked for it, and nothing else is tried.
func TestReadoutFixed(t *testing.T) {
	for name, test := range map[string]struct {
		start int
		meter *meter
		sent  string
		fails bool
	}{
		"at 300":            {300, isk(), "/?!\r\n|\x06000\r\n", false},
		"at 9600":           {9600, isk(), "/?!\r\n|\x06050\r\n", false},
		"at another rate":   {115200, with(func(m *meter) { m.stays = true }), "/?!\r\n|\x06050\r\n", false},
		"mode B, same rate": {2400, as("LUGCUH50", framed(t550)), "/?!\r\n", false},
		"mode B":            {300, as("LUGCUH50", framed(t550)), "/?!\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.meter.start, test.meter.rate = test.start, test.start
				if test.meter.ident == "LUGCUH50" && !test.fails {
					test.meter.mode = ModeA
				}
				l := &line{T: t, meter: test.meter, rate: test.start, fixed: true}
				got, err := Session{StartBaud: test.start}.Readout(t.Context(), l)
				require.Equal(t, test.sent, strings.Join(l.sent, "|"))
				if test.fails {
					require.ErrorIs(t, err, ErrFixed)
					require.ErrorContains(t, err, "the meter goes on at 2400 baud")
					return
				}
				require.NoError(t, err)
				require.NotEmpty(t, got.Fields)
				require.Equal(t, test.start, l.rate)
			})
		})
	}
}

func TestReadoutEndsWithContext(t *testing.T) {
	for name, after := range map[string]time.Duration{"in the sign-on": time.Second, "before the option": 100 * time.Millisecond, "in the data": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := with(func(m *meter) {
					switch name {
					case "in the sign-on":
						m.muteAt = "ident"
					case "in the data":
						m.muteAt = "data"
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				l := &line{T: t, meter: m, rate: 300}
				begun := time.Now()
				_, err := Session{}.Readout(ctx, l)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, after, time.Since(begun))
				require.Equal(t, 300, l.rate)
			})
		})
	}
}

func TestSessionCheck(t *testing.T) {
	for _, s := range []Session{{}, {Address: strings.Repeat("1", maxDeviceAddress), Mode: ModeA, StartBaud: 9600, MaxBaud: 300, Timeout: time.Second}} {
		require.NoError(t, s.Check())
	}
	for _, s := range []Session{{Address: strings.Repeat("1", maxDeviceAddress+1)}, {Address: "1!"}, {Address: "1\n"}, {Address: "ü"}, {Mode: "D"}, {StartBaud: -1}, {MaxBaud: -1}, {Timeout: -1}} {
		require.Error(t, s.Check())
	}
}

// What a meter sends without an end is taken up to the bound, and no further.
func TestReadoutBound(t *testing.T) {
	require.Zero(t, messageEnd(bytes.Repeat([]byte{stx}, MaxMessage-1)))
	endless := bytes.Repeat([]byte{stx}, MaxMessage)
	require.Equal(t, MaxMessage, messageEnd(endless))
	_, err := DecodeMessage(endless)
	require.ErrorIs(t, err, ErrDamaged)
}
