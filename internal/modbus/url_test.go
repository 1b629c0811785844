package modbus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/serialport"
)

func TestSerialURLsHaveTheSettingsOfThePort(t *testing.T) {
	for name, test := range map[string]struct {
		url  string
		want serialport.Config
		back string
	}{
		"defaults": {
			"rtu:///dev/x",
			serialport.Config{Path: "/dev/x", Baud: 19200, Parity: serialport.Even, StopBits: 1, DataBits: 8},
			"rtu:///dev/x?baud=19200&parity=even&stop=1&bits=8",
		},
		"ascii": {
			"ascii:///dev/x?parity=n",
			serialport.Config{Path: "/dev/x", Baud: 19200, Parity: serialport.None, StopBits: 1, DataBits: 7},
			"ascii:///dev/x?baud=19200&parity=none&stop=1&bits=7",
		},
		"rs485": {
			"rtu:///dev/x?baud=9600&rs485=on&rs485-after=2ms&dtr=off",
			serialport.Config{
				Path: "/dev/x", Baud: 9600, Parity: serialport.Even, StopBits: 1, DataBits: 8, DTR: serialport.Off,
				RS485: serialport.RS485{Mode: serialport.On, After: 2 * time.Millisecond},
			},
			"rtu:///dev/x?baud=9600&parity=even&stop=1&bits=8&dtr=off&rs485=on&rs485-after=2ms",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, wrong := parseURL(test.url)
			require.Nil(t, wrong)
			require.Equal(t, test.want, e.Port())
			require.Equal(t, test.back, e.String())
			again, wrong := parseURL(e.String())
			require.Nil(t, wrong)
			require.Equal(t, e, again)
		})
	}
	_, wrong := parseURL("rtu:///dev/x?rts=on&rs485=on")
	require.Equal(t, &mistake{"rts stands beside rs485=on, which switches RTS itself", "leave rts out; rs485-rts is its level while sending"}, wrong)
	_, wrong = parseURL("ascii:///dev/x?bits=6")
	require.Equal(t, &mistake{`"6" data bits do not carry ascii`, "use 8; only ascii goes with 7 as well"}, wrong)
}
