package rfc2217

import (
	"bytes"
	"errors"
	"fmt"
)

// Commands of RFC 854.
const (
	cmdSE   = 240
	cmdSB   = 250
	cmdWill = 251
	cmdWont = 252
	cmdDo   = 253
	cmdDont = 254
	cmdIAC  = 255
)

// Options.
const (
	optBinary  = 0  // RFC 856
	optGoAhead = 3  // suppress it: RFC 858
	optComPort = 44 // RFC 2217
)

// maxSub bounds a subnegotiation, option and doubled bytes taken off: the longest of RFC 2217 is a
// signature, and those fit a line.
const maxSub = 256

// Errors of a decoder, after which nothing that comes can be trusted.
var (
	errLong      = fmt.Errorf("a telnet subnegotiation is longer than %d bytes", maxSub)
	errMalformed = errors.New("a telnet subnegotiation is malformed")
)

// command is what a peer says outside of the data.
type command struct {
	verb   byte   // cmdWill, cmdWont, cmdDo, cmdDont, cmdSB, or one that has nothing to say here
	option byte   // of those named
	body   []byte // of cmdSB, valid during the call
}

// state is where in a command a decoder is.
type state byte

const (
	inData state = iota
	afterIAC
	afterVerb
	inSub
	afterSubIAC
)

// decoder takes the commands out of a telnet stream, wherever it is cut. The zero value is at its
// beginning.
type decoder struct {
	state state
	verb  byte
	n     int // bytes in sub
	sub   [maxSub]byte
}

// decode moves the data in p to its start and returns how many bytes that are. It calls on for each
// command, in order. After an error the stream is lost.
func (d *decoder) decode(p []byte, on func(command) error) (int, error) {
	n := 0
	for i := 0; i < len(p); i++ {
		if d.state == inData {
			run := bytes.IndexByte(p[i:], cmdIAC)
			if run < 0 {
				return n + copy(p[n:], p[i:]), nil
			}
			n += copy(p[n:], p[i:i+run])
			i += run
			d.state = afterIAC
			continue
		}
		data, err := d.step(p[i], on)
		if err != nil {
			return n, err
		}
		if data { // at most as many as were read, so n <= i
			p[n] = cmdIAC
			n++
		}
	}
	return n, nil
}

// step takes one byte of a command. data: it was a doubled one of the data.
func (d *decoder) step(b byte, on func(command) error) (data bool, err error) {
	switch d.state {
	case afterIAC:
		d.state = inData
		switch b {
		case cmdIAC:
			return true, nil
		case cmdWill, cmdWont, cmdDo, cmdDont:
			d.state, d.verb = afterVerb, b
		case cmdSB:
			d.state, d.n = inSub, 0
		default:
			return false, on(command{verb: b})
		}
	case afterVerb:
		d.state = inData
		return false, on(command{verb: d.verb, option: b})
	case inSub:
		if b == cmdIAC {
			d.state = afterSubIAC
			return false, nil
		}
		return false, d.keep(b)
	case afterSubIAC:
		switch {
		case b == cmdIAC:
			d.state = inSub
			return false, d.keep(b)
		case b == cmdSE && d.n > 0:
			d.state = inData
			return false, on(command{verb: cmdSB, option: d.sub[0], body: d.sub[1:d.n]})
		}
		return false, errMalformed
	}
	return false, nil
}

func (d *decoder) keep(b byte) error {
	if d.n == len(d.sub) {
		return errLong
	}
	d.sub[d.n] = b
	d.n++
	return nil
}

// appendData appends p as telnet data: 255 is doubled.
func appendData(to, p []byte) []byte {
	for {
		i := bytes.IndexByte(p, cmdIAC)
		if i < 0 {
			return append(to, p...)
		}
		to = append(append(to, p[:i+1]...), cmdIAC)
		p = p[i+1:]
	}
}

// plain is how many bytes of p the first sent bytes of its encoding hold.
func plain(p []byte, sent int) int {
	for i, b := range p {
		sent--
		if b == cmdIAC {
			sent--
		}
		if sent < 0 {
			return i
		}
	}
	return len(p)
}

func appendOption(to []byte, verb, option byte) []byte { return append(to, cmdIAC, verb, option) }

// appendSub appends a subnegotiation of COM-PORT-OPTION.
func appendSub(to []byte, code byte, body []byte) []byte {
	to = append(to, cmdIAC, cmdSB, optComPort, code)
	return append(appendData(to, body), cmdIAC, cmdSE)
}
