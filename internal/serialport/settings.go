package serialport

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mistake is a setting that is wrong, and what to do about it. A driver makes a
// twin.Problem of it: it knows the object and the field.
type Mistake struct{ What, Remedy string }

// Error implements error.
func (m *Mistake) Error() string { return m.What + "; " + m.Remedy }

// The parameters of a URL that names a serial port.
const (
	keyBaud   = "baud"
	keyParity = "parity"
	keyStop   = "stop"
	keyBits   = "bits"
	keyRTS    = "rts"
	keyDTR    = "dtr"
	keyRS485  = "rs485"
	keyLevel  = "rs485-rts"
	keyBefore = "rs485-before"
	keyAfter  = "rs485-after"
)

// ParseSettings reads the parameters of a URL that names the port at path: baud (50 to
// 4000000), parity (none, even, odd or n, e, o), stop (1, 2), bits (5 to 8), rts, dtr and rs485
// (on, off), and with rs485=on also rs485-rts (the level while sending), rs485-before and
// rs485-after (delays such as 2ms). What is missing or empty is as in defaults. The error is a *Mistake. The
// path is taken as it is.
func ParseSettings(path string, query url.Values, defaults Config) (Config, error) {
	c := defaults
	c.Path = path
	keys := make([]string, 0, len(query))
	for key := range query {
		keys = append(keys, key)
	}
	slices.Sort(keys) // the same mistake each time
	known := []string{keyBaud, keyParity, keyStop, keyBits, keyRTS, keyDTR, keyRS485, keyLevel, keyBefore, keyAfter}
	for _, key := range keys {
		if !slices.Contains(known, key) || len(query[key]) != 1 {
			return c, &Mistake{
				fmt.Sprintf("the URL parameter %.40q is unknown, or there twice", key),
				"use baud, parity, stop and bits, each once, or rts, dtr and rs485 for what else the line needs",
			}
		}
	}
	if m := c.parseCharacter(query); m != nil {
		return c, m
	}
	if m := c.parseSignals(query); m != nil {
		return c, m
	}
	return c, nil
}

// parseCharacter reads what a character on the wire looks like.
func (c *Config) parseCharacter(query url.Values) *Mistake {
	if baud := query.Get(keyBaud); baud != "" {
		n, err := strconv.Atoi(baud)
		if err != nil || n < MinBaud || n > MaxBaud {
			return &Mistake{fmt.Sprintf("%.40q is not a baud rate", baud), fmt.Sprintf("use %d to %d, such as 9600", MinBaud, MaxBaud)}
		}
		c.Baud = n
	}
	switch parity := query.Get(keyParity); strings.ToLower(parity) {
	case "":
	case "none", "n":
		c.Parity = None
	case "even", "e":
		c.Parity = Even
	case "odd", "o":
		c.Parity = Odd
	default:
		return &Mistake{fmt.Sprintf("%.40q is not a parity", parity), "use none, even or odd"}
	}
	switch stop := query.Get(keyStop); stop {
	case "":
	case "1", "2":
		c.StopBits = int(stop[0] - '0')
	default:
		return &Mistake{fmt.Sprintf("%.40q is not a number of stop bits", stop), "use 1 or 2"}
	}
	switch bits := query.Get(keyBits); bits {
	case "":
	case "5", "6", "7", "8":
		c.DataBits = int(bits[0] - '0')
	default:
		return &Mistake{fmt.Sprintf("%.40q is not a number of data bits", bits), "use 5 to 8"}
	}
	return nil
}

// parseSignals reads what RTS and DTR do.
func (c *Config) parseSignals(query url.Values) *Mistake {
	for _, s := range []struct {
		key string
		to  *Switch
	}{{keyRTS, &c.RTS}, {keyDTR, &c.DTR}, {keyRS485, &c.RS485.Mode}, {keyLevel, &c.RS485.RTS}} {
		switch text := query.Get(s.key); strings.ToLower(text) {
		case "":
		case "on":
			*s.to = On
		case "off":
			*s.to = Off
		default:
			return &Mistake{fmt.Sprintf("%s is %.40q", s.key, text), "use on or off"}
		}
	}
	for _, d := range []struct {
		key string
		to  *time.Duration
	}{{keyBefore, &c.RS485.Before}, {keyAfter, &c.RS485.After}} {
		text := query.Get(d.key)
		if text == "" {
			continue
		}
		delay, err := time.ParseDuration(text)
		if err != nil || delay < 0 || delay > MaxRS485Delay || delay%time.Millisecond != 0 {
			return &Mistake{fmt.Sprintf("%s is %.40q", d.key, text), "use whole milliseconds up to 100ms, such as 2ms"}
		}
		*d.to = delay
	}
	if c.RS485.Mode != On && c.RS485 != (RS485{Mode: c.RS485.Mode}) {
		return &Mistake{"there are settings of an RS-485 mode that is not on", "add rs485=on, or leave them out"}
	}
	if c.RS485.Mode == On && c.RTS != AsIs {
		return &Mistake{"rts stands beside rs485=on, which switches RTS itself", "leave rts out; rs485-rts is its level while sending"}
	}
	return nil
}

// Query returns the settings as the parameters that ParseSettings reads. The first four
// are always there, the others only where they say something.
func (c Config) Query() string {
	parity, stop, bits := c.Parity, c.StopBits, c.DataBits
	if parity == "" {
		parity = None
	}
	if stop == 0 {
		stop = 1
	}
	if bits == 0 {
		bits = 8
	}
	b := fmt.Appendf(nil, "baud=%d&parity=%s&stop=%d&bits=%d", c.Baud, parity, stop, bits)
	for _, s := range []struct {
		key   string
		value Switch
	}{{keyRTS, c.RTS}, {keyDTR, c.DTR}, {keyRS485, c.RS485.Mode}, {keyLevel, c.RS485.RTS}} {
		if s.value != AsIs {
			b = fmt.Appendf(b, "&%s=%s", s.key, s.value)
		}
	}
	if c.RS485.Before != 0 {
		b = fmt.Appendf(b, "&%s=%s", keyBefore, c.RS485.Before)
	}
	if c.RS485.After != 0 {
		b = fmt.Appendf(b, "&%s=%s", keyAfter, c.RS485.After)
	}
	return string(b)
}
