package simulator

import (
	"log/slog"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/dsmr"
	"github.com/twinline/twinline/internal/iec62056"
	"github.com/twinline/twinline/internal/nmea"
	"github.com/twinline/twinline/internal/sml"
	decoded "github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// hearing returns a line with a board and a meter on it.
func hearing(t testing.TB) *serialLine {
	t.Helper()
	type keys = map[string]any
	board := twin.Device{
		ID: twin.DeviceID{Namespace: "default", Name: "board"}, Protocol: "serial",
		Config: keys{"url": "tcp://127.0.0.1:5020", "requests": keys{"state": keys{"send": "R"}, "stay": keys{"send": "RST"}, "ping": keys{"send": "?", "raw": true}}},
		Properties: []twin.Property{
			{Name: "x", Type: twin.TypeInt, Writable: true, Visitor: keys{"request": "state", "name": "X", "write": keys{"send": "X${value}"}}},
			{Name: "y", Type: twin.TypeInt, Writable: true, Visitor: keys{"request": "state", "name": "Y", "write": keys{"send": "Y${value}", "raw": true}}},
		},
	}
	meter := twin.Device{
		ID: twin.DeviceID{Namespace: "default", Name: "meter"}, Protocol: "serial", Config: keys{"url": "tcp://127.0.0.1:5020", "profile": "iec62056"},
		Properties: []twin.Property{{Name: "e", Type: twin.TypeInt, Visitor: keys{"field": "1.8.0"}}},
	}
	s, problems := New([]twin.Device{board, meter}, Script{}, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	for _, l := range s.serialLines {
		return l
	}
	return nil
}

func TestWhatIsHeard(t *testing.T) {
	l := hearing(t)
	for name, test := range map[string]struct {
		in    string
		quiet bool
		want  string // "": nothing
		to    int
	}{
		"a request":                      {"R\n", false, "state", 2},
		"the longer of two":              {"RST\n", false, "stay", 4},
		"half":                           {"RS", false, "", 0},
		"two":                            {"R\nRST\n", false, "state", 2},
		"behind noise, not yet":          {"zz?", false, "", 0},
		"behind noise":                   {"zz?", true, "ping", 3},
		"a write":                        {"X-12\n", false, "write x", 5},
		"a write that is no number":      {"Xa\n", false, "write x", 3},
		"a write without an end":         {"Y1", false, "", 0},
		"a write that the silence ends":  {"Y12", true, "write y", 3},
		"a sign-on":                      {"/?!\r\n", false, signOn, 5},
		"a sign-on of another meter":     {"/?77!\r\n", false, "", 0},
		"an option select message":       {"\x06050\r\n", false, option, 6},
		"half an option select message":  {"\x0605", false, "", 0},
		"a request for a data message":   {"\x15", false, repeat, 1},
		"what is nothing":                {"hello\n", true, "", 0},
		"a write and what is left of it": {"X1\nX", false, "write x", 3},
	} {
		t.Run(name, func(t *testing.T) {
			h, ok := l.find([]byte(test.in), test.quiet)
			require.Equal(t, test.want != "", ok)
			if ok {
				require.Equal(t, test.want, h.name())
				require.Equal(t, test.to, h.to)
			}
		})
	}
}

func TestHowOftenAFrameIsSent(t *testing.T) {
	for every, ok := range map[string]bool{"19ms": false, "20ms": true, "1h": true, "1h0m0.001s": false} {
		var script Script
		problems := DecodeScript("test", []byte("apiVersion: twinline.io/v1alpha1\nkind: Simulation\nspec: {devices: {a/b: {stream: [{every: "+every+", send: x}]}}}\n"), &script)
		require.Equal(t, ok, len(problems) == 0, "%s: %v", every, problems)
	}
}

func FuzzHear(f *testing.F) {
	for _, in := range []string{"R\n", "X1\n", "/?!\r\n\x06050\r\n\x15", "Y1", "\xff\x00?"} {
		f.Add([]byte(in), true)
	}
	l := hearing(f)
	f.Fuzz(func(t *testing.T, in []byte, quiet bool) {
		for range len(in) + 1 {
			h, ok := l.find(in, quiet)
			if !ok {
				return
			}
			require.True(t, h.from >= 0 && h.from < h.to && h.to <= len(in))
			h.of.answer(&h)
			in = in[h.to:]
		}
		require.Empty(t, in)
	})
}

// FuzzEncoders lets the decoders read what the encoders write: a text goes through, or is refused.
func FuzzEncoders(f *testing.F) {
	for _, text := range []string{"12.50", "-3", "18446744073709551615", "hello", "", "(", "a*b", "true"} {
		f.Add(text, "")
	}
	f.Add("1", "1EMH0012345678")
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	sentences := nmea.New()
	plain := regexp.MustCompile(`^-?[0-9]{1,9}(\.[0-9]{1,6})?$`)
	f.Fuzz(func(t *testing.T, text, sender string) {
		for _, c := range []struct {
			name   string
			encode func(telegram) ([]byte, error)
			decode func([]byte) (decoded.Telegram, error)
		}{
			{"1-0:1.8.0", encodeDSMR, dsmr.Decode},
			{"1-0:1.8.0", encodeSML, sml.Decode},
			{"1.8.0", pushIEC62056, iec62056.DecodeMessage},
			{"RMC.speed", encodeNMEA, func(b []byte) (decoded.Telegram, error) { return sentences.Decode(b[:max(0, len(b)-2)]) }},
		} {
			frame, err := c.encode(telegram{sender: sender, samples: []sample{{c.name, text}}, now: now})
			if err != nil {
				continue
			}
			got, err := c.decode(frame)
			if sender != "" || !plain.MatchString(text) {
				continue // that may be none of the format's
			}
			require.NoError(t, err)
			field, ok := got.Field(c.name)
			require.True(t, ok)
			require.Empty(t, field.Quality)
			want, _ := strconv.ParseFloat(text, 64)
			value, err := strconv.ParseFloat(field.Text, 64)
			require.NoError(t, err)
			require.Equal(t, want+0, value+0)
		}
	})
}
