package rfc2217

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Switch is a signal that may be left alone: AsIs, On or Off.
type Switch string

// The positions of a Switch.
const (
	AsIs Switch = "" // as the server has it
	On   Switch = "on"
	Off  Switch = "off"
)

// Settings is what the server sets its serial port to. There is no flow control.
type Settings struct {
	Baud     int    // 1 to MaxBaud
	DataBits int    // 5 to 8; 0: 8
	Parity   string // none, even or odd; empty: none
	StopBits int    // 1 or 2; 0: 1
	RTS, DTR Switch
}

// MaxBaud bounds the rate of a port, as that of local ones.
const MaxBaud = 4_000_000

// Codes of RFC 2217, section 3; the server's are answerOffset higher.
const (
	codeSignature  = 0
	codeBaud       = 1
	codeDataSize   = 2
	codeParity     = 3
	codeStopSize   = 4
	codeControl    = 5
	codeLineState  = 6
	codeLineMask   = 10
	codeModemMask  = 11
	codePurge      = 12
	answerOffset   = 100
	flowNone       = 1
	dtrOn, dtrOff  = 8, 9
	rtsOn, rtsOff  = 11, 12
	purgeBoth      = 3
	lineOverrun    = 1 << 1
	lineParity     = 1 << 2
	lineFraming    = 1 << 3
	lineBreak      = 1 << 4
	lineErrorsMask = lineOverrun | lineParity | lineFraming | lineBreak
)

// setting is one that a server has to confirm.
type setting struct {
	name     string
	code     byte
	value    uint32
	answered bool
}

// RefusedError is the error of a server that set something else than it was told to.
type RefusedError struct {
	Setting   string // such as "baud rate"
	Want, Got uint32 // as RFC 2217 has them
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server set the %s to %d, not to %d; use one that its port has", e.Setting, e.Got, e.Want)
}

// complete fills in the defaults and checks what is given.
func (s Settings) complete() (Settings, error) {
	if s.DataBits == 0 {
		s.DataBits = 8
	}
	if s.StopBits == 0 {
		s.StopBits = 1
	}
	if s.Parity == "" {
		s.Parity = "none"
	}
	_, known := parityValue(s.Parity)
	switch {
	case s.Baud < 1 || s.Baud > MaxBaud:
		return s, fmt.Errorf("%d baud; use 1 to %d", s.Baud, MaxBaud)
	case s.DataBits < 5 || s.DataBits > 8:
		return s, fmt.Errorf("%d data bits; use 5 to 8", s.DataBits)
	case !known:
		return s, fmt.Errorf("parity %.40q; use none, even or odd", s.Parity)
	case s.StopBits < 1 || s.StopBits > 2:
		return s, fmt.Errorf("%d stop bits; use 1 or 2", s.StopBits)
	}
	for _, w := range []Switch{s.RTS, s.DTR} {
		if w != AsIs && w != On && w != Off {
			return s, fmt.Errorf("%.40q is no position of RTS or DTR; use on or off", string(w))
		}
	}
	return s, nil
}

func parityValue(name string) (uint32, bool) {
	switch name {
	case "none":
		return 1, true
	case "odd":
		return 2, true
	case "even":
		return 3, true
	}
	return 0, false
}

// char is how long a character takes on the line.
func (s Settings) char() time.Duration {
	bits := 1 + s.DataBits + s.StopBits
	if s.Parity != "none" {
		bits++
	}
	return time.Second * time.Duration(bits) / time.Duration(s.Baud)
}

// list is what the server has to confirm, in the order in which it is asked.
func (s Settings) list() []setting {
	parity, _ := parityValue(s.Parity)
	list := []setting{
		{name: "baud rate", code: codeBaud, value: uint32(s.Baud)},
		{name: "data bits", code: codeDataSize, value: uint32(s.DataBits)},
		{name: "parity (1 none, 2 odd, 3 even)", code: codeParity, value: parity},
		{name: "stop bits", code: codeStopSize, value: uint32(s.StopBits)},
		{name: "flow control (1 none)", code: codeControl, value: flowNone},
	}
	switch s.DTR {
	case On:
		list = append(list, setting{name: "signal DTR (8 on, 9 off)", code: codeControl, value: dtrOn})
	case Off:
		list = append(list, setting{name: "signal DTR (8 on, 9 off)", code: codeControl, value: dtrOff})
	}
	switch s.RTS {
	case On:
		list = append(list, setting{name: "signal RTS (11 on, 12 off)", code: codeControl, value: rtsOn})
	case Off:
		list = append(list, setting{name: "signal RTS (11 on, 12 off)", code: codeControl, value: rtsOff})
	}
	return list
}

// append appends the request.
func (s *setting) append(to []byte) []byte {
	if s.code == codeBaud {
		return appendSub(to, s.code, binary.BigEndian.AppendUint32(nil, s.value))
	}
	return appendSub(to, s.code, []byte{byte(s.value)})
}

// matches reports whether an answer is to this request. SET-CONTROL speaks of three things
// by one code.
func (s *setting) matches(code byte, value uint32) bool {
	return !s.answered && s.code == code && (code != codeControl || control(s.value) == control(value))
}

// control is what a value of SET-CONTROL speaks of.
func control(value uint32) int {
	switch {
	case value >= 4 && value <= 6:
		return 1 // break
	case value >= 7 && value <= 9:
		return 2 // DTR
	case value >= 10 && value <= 12:
		return 3 // RTS
	}
	return 0 // flow control
}

// answerValue reads the value of an answer. RFC 2217 has four bytes for rates, one for all else.
func answerValue(code byte, body []byte) (uint32, bool) {
	if code == codeBaud {
		if len(body) != 4 {
			return 0, false
		}
		return binary.BigEndian.Uint32(body), true
	}
	if len(body) != 1 {
		return 0, false
	}
	return uint32(body[0]), true
}
