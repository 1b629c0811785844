package serialport

import (
	"fmt"
	"time"

	"go.bug.st/serial"
)

// Parity is the parity of a Config.
type Parity string

// The parities.
const (
	None Parity = "none"
	Even Parity = "even"
	Odd  Parity = "odd"
)

// Switch is a signal or a mode that may be left alone.
type Switch string

// The positions of a Switch.
const (
	AsIs Switch = "" // as the driver leaves it
	On   Switch = "on"
	Off  Switch = "off"
)

// RS485 is the direction control of a driver that switches its transceiver by RTS
// (Documentation/driver-api/serial/serial-rs485.rst of Linux).
type RS485 struct {
	Mode Switch // On: the driver drives RTS around each transmission
	// RTS is its level while sending; it has the other one while receiving. AsIs means On.
	RTS Switch
	// Before and After are how long RTS is held before the first bit and after the last
	// one, in whole milliseconds up to MaxRS485Delay.
	Before, After time.Duration
}

// Bounds of a Config.
const (
	MinBaud = 50 // the slowest rate of termios(3)
	MaxBaud = 4_000_000
	// MaxRS485Delay is RS485_MAX_RTS_DELAY of Linux (drivers/tty/serial/serial_core.c): it cuts longer ones.
	MaxRS485Delay = 100 * time.Millisecond
)

// Config says which port, and how. It is comparable: equal ones open the same line in the same way.
type Config struct {
	Path     string // best /dev/serial/by-id/…, which survives replugging
	Baud     int
	Parity   Parity // empty: none
	StopBits int    // 1 or 2; 0: 1
	DataBits int    // 5 to 8; 0: 8
	RTS, DTR Switch // lines that feed or wake some instruments
	RS485    RS485
}

// mode translates what every port has. what is the operation for errors.
func (c Config) mode(what string) (*serial.Mode, error) {
	mode := &serial.Mode{BaudRate: c.Baud, DataBits: c.DataBits}
	if mode.DataBits == 0 {
		mode.DataBits = 8
	}
	if c.Baud < MinBaud || c.Baud > MaxBaud {
		return nil, fmt.Errorf("%s: %d baud; use %d to %d", what, c.Baud, MinBaud, MaxBaud)
	}
	if c.DataBits != 0 && (c.DataBits < 5 || c.DataBits > 8) {
		return nil, fmt.Errorf("%s: %d data bits; use 5 to 8", what, c.DataBits)
	}
	switch c.Parity {
	case "", None:
		mode.Parity = serial.NoParity
	case Even:
		mode.Parity = serial.EvenParity
	case Odd:
		mode.Parity = serial.OddParity
	default:
		return nil, fmt.Errorf("%s: parity %q; use none, even or odd", what, c.Parity)
	}
	switch c.StopBits {
	case 0, 1:
		mode.StopBits = serial.OneStopBit
	case 2:
		mode.StopBits = serial.TwoStopBits
	default:
		return nil, fmt.Errorf("%s: %d stop bits; use 1 or 2", what, c.StopBits)
	}
	for _, s := range []Switch{c.RTS, c.DTR, c.RS485.Mode, c.RS485.RTS} {
		if s != AsIs && s != On && s != Off {
			return nil, fmt.Errorf("%s: %q is no position of rts, dtr or rs485; use on or off", what, s)
		}
	}
	return mode, nil
}
