package serialport

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseSettings(t *testing.T) {
	defaults := Config{Baud: 19200, Parity: Even, StopBits: 1, DataBits: 8}
	for name, test := range map[string]struct {
		query string
		want  Config
		back  string
	}{
		"nothing":   {"", Config{Path: "/dev/x", Baud: 19200, Parity: Even, StopBits: 1, DataBits: 8}, "baud=19200&parity=even&stop=1&bits=8"},
		"empty":     {"baud=&rts=", Config{Path: "/dev/x", Baud: 19200, Parity: Even, StopBits: 1, DataBits: 8}, "baud=19200&parity=even&stop=1&bits=8"},
		"character": {"baud=300&parity=E&stop=2&bits=7", Config{Path: "/dev/x", Baud: 300, Parity: Even, StopBits: 2, DataBits: 7}, "baud=300&parity=even&stop=2&bits=7"},
		"letters":   {"parity=n&bits=5", Config{Path: "/dev/x", Baud: 19200, Parity: None, StopBits: 1, DataBits: 5}, "baud=19200&parity=none&stop=1&bits=5"},
		"slowest":   {"baud=50&parity=o", Config{Path: "/dev/x", Baud: 50, Parity: Odd, StopBits: 1, DataBits: 8}, "baud=50&parity=odd&stop=1&bits=8"},
		"fastest":   {"baud=4000000", Config{Path: "/dev/x", Baud: 4000000, Parity: Even, StopBits: 1, DataBits: 8}, "baud=4000000&parity=even&stop=1&bits=8"},
		"signals":   {"rts=off&dtr=ON", Config{Path: "/dev/x", Baud: 19200, Parity: Even, StopBits: 1, DataBits: 8, RTS: Off, DTR: On}, "baud=19200&parity=even&stop=1&bits=8&rts=off&dtr=on"},
		"rs485": {
			"rs485=on&rs485-rts=off&rs485-before=2ms&rs485-after=100ms&dtr=off",
			Config{Path: "/dev/x", Baud: 19200, Parity: Even, StopBits: 1, DataBits: 8, DTR: Off, RS485: RS485{On, Off, 2 * time.Millisecond, 100 * time.Millisecond}},
			"baud=19200&parity=even&stop=1&bits=8&dtr=off&rs485=on&rs485-rts=off&rs485-before=2ms&rs485-after=100ms",
		},
		"rs485 off": {"rs485=off&rts=on", Config{Path: "/dev/x", Baud: 19200, Parity: Even, StopBits: 1, DataBits: 8, RTS: On, RS485: RS485{Mode: Off}}, "baud=19200&parity=even&stop=1&bits=8&rts=on&rs485=off"},
	} {
		t.Run(name, func(t *testing.T) {
			query, err := url.ParseQuery(test.query)
			require.NoError(t, err)
			got, err := ParseSettings("/dev/x", query, defaults)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
			require.Equal(t, test.back, got.Query())
		})
	}
	require.Equal(t, "baud=9600&parity=none&stop=1&bits=8", Config{Baud: 9600}.Query())
}

func TestWrongParametersAreRefusedWithARemedy(t *testing.T) {
	for name, test := range map[string]struct{ query, want string }{
		"unknown":      {"speed=7&zeal=1", `the URL parameter "speed" is unknown, or there twice; use baud, parity, stop and bits, each once`},
		"twice":        {"baud=300&baud=600", `the URL parameter "baud" is unknown, or there twice`},
		"baud":         {"baud=fast", `"fast" is not a baud rate; use 50 to 4000000, such as 9600`},
		"slow":         {"baud=49", `"49" is not a baud rate`},
		"fast":         {"baud=4000001", `"4000001" is not a baud rate`},
		"parity":       {"parity=mark", `"mark" is not a parity; use none, even or odd`},
		"stop":         {"stop=1.5", `"1.5" is not a number of stop bits; use 1 or 2`},
		"few bits":     {"bits=4", `"4" is not a number of data bits; use 5 to 8`},
		"many bits":    {"bits=9", `"9" is not a number of data bits`},
		"rts":          {"rts=high", `rts is "high"; use on or off`},
		"dtr":          {"dtr=1", `dtr is "1"; use on or off`},
		"rs485":        {"rs485=yes", `rs485 is "yes"; use on or off`},
		"long delay":   {"rs485=on&rs485-after=101ms", `rs485-after is "101ms"; use whole milliseconds up to 100ms, such as 2ms`},
		"part delay":   {"rs485=on&rs485-before=1500us", `rs485-before is "1500us"`},
		"no unit":      {"rs485=on&rs485-before=2", `rs485-before is "2"`},
		"rs485 is off": {"rs485-before=2ms", "there are settings of an RS-485 mode that is not on; add rs485=on"},
		"rts, rs485":   {"rts=on&rs485=on", "rts stands beside rs485=on"},
	} {
		t.Run(name, func(t *testing.T) {
			query, err := url.ParseQuery(test.query)
			require.NoError(t, err)
			_, err = ParseSettings("/dev/x", query, Config{Baud: 9600})
			var mistake *Mistake
			require.ErrorAs(t, err, &mistake)
			require.NotEmpty(t, mistake.Remedy)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("baud=300&parity=e&stop=1&bits=7")
	f.Add("rs485=on&rs485-rts=off&rs485-before=2ms&rs485-after=3ms&dtr=on")
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		c, err := ParseSettings("/dev/x", query, Config{Baud: 9600})
		if err != nil {
			var mistake *Mistake
			require.ErrorAs(t, err, &mistake)
			return
		}
		_, err = c.mode("test")
		require.NoError(t, err)
		again, err := url.ParseQuery(c.Query())
		require.NoError(t, err)
		d, err := ParseSettings("/dev/x", again, Config{})
		require.NoError(t, err)
		require.Equal(t, c.Query(), d.Query())
	})
}
