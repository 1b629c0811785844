package simulator

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/serial"
)

// Control characters of IEC 62056-21, section 6.3.14.
const (
	meterSTX = 0x02
	meterETX = 0x03
	meterACK = 0x06
	meterNAK = 0x15
)

// meterReaction is the least time before an answer, IEC 62056-21 section 6.4.3.1. In it the reader changes its rate.
const meterReaction = 200 * time.Millisecond

// Steps of the dialogue.
const (
	signOn = "sign-on"
	option = "option select"
	repeat = "repeat request"
)

// optionLength is how many bytes an option select message has: ACK V Z Y CR LF.
const optionLength = 6

// meter is the dialogue of one meter. It does not change but for open and last, which Instrument.mu guards.
type meter struct {
	address string
	modeA   bool
	ident   string
	open    bool // the option select message may come
	last    bool // a data message was sent, which may be asked for again
}

// begin sets the meter up; it returns the mode if that is none that is played.
func (m *meter) begin(c *serial.Meter) string {
	if c == nil {
		return ""
	}
	if c.Mode == "b" {
		return c.Mode
	}
	m.address, m.modeA, m.ident = c.Address, c.Mode == "a", "5TWINLINE" // 5: 9600 baud
	if m.modeA {
		m.ident = "ZTWINLINE" // no rate of another mode
	}
	return ""
}

// hears finds a step of the dialogue.
func (m *meter) hears(in []byte) (heard, bool) {
	if from := bytes.Index(in, []byte("/?")); from >= 0 {
		if n := bytes.Index(in[from:], []byte("!\r\n")); n >= 0 {
			h := heard{from: from, to: from + n + 3, meter: signOn, payload: in[from+2 : from+n]}
			address := strings.TrimLeft(string(h.payload), "0")
			return h, address == "" || address == strings.TrimLeft(m.address, "0")
		}
		return heard{}, false
	}
	if from := bytes.IndexByte(in, meterACK); from >= 0 && len(in) >= from+optionLength {
		return heard{from: from, to: from + optionLength, meter: option}, true
	}
	if from := bytes.IndexByte(in, meterNAK); from >= 0 {
		return heard{from: from, to: from + 1, meter: repeat}, true
	}
	return heard{}, false
}

// counts reports whether a step is answered with the data message, which is the one that counts as a request.
func (m *meter) counts(step string) bool { return step != signOn || m.modeA }

// dialogue answers a step; i.mu is held.
func (i *Instrument) dialogue(h *heard) []byte {
	m := &i.meter
	ident := []byte("/TWL" + m.ident + "\r\n")
	switch {
	case h.meter == signOn && !m.modeA:
		m.open, m.last = true, false
		return ident
	case h.meter == signOn:
	case h.meter == option && m.open:
		m.open, ident = false, nil
	case h.meter == repeat && m.last:
		ident = nil
	default:
		return nil
	}
	block, err := i.dataBlock()
	if err != nil {
		i.log.Warn("no answer", "device", i.id.String(), "request", h.meter, "error", err)
		return nil
	}
	m.last = true
	return append(ident, sealIEC62056(block)...)
}

// dataBlock returns the data sets of the readout; i.mu is held.
func (i *Instrument) dataBlock() ([]byte, error) {
	t, err := i.samples(i.shown(func(f *serial.Field) bool { return f.Request >= 0 && i.decl.Requests[f.Request].Dialog }))
	if err != nil {
		return nil, err
	}
	return blockIEC62056(t)
}

// blockIEC62056 is a data block: a data set on each line, and the end.
func blockIEC62056(t telegram) ([]byte, error) {
	var b []byte
	for _, s := range t.samples {
		if strings.ContainsAny(s.name, "#()!/\r\n") || strings.ContainsAny(s.text, "()!/*\r\n") {
			return nil, fmt.Errorf("%s with the value %q is not played by itself", s.name, s.text)
		}
		b = fmt.Appendf(b, "%s(%s)\r\n", s.name, s.text)
	}
	return append(b, "!\r\n"...), nil
}

// sealIEC62056 puts a block between STX and ETX, and the block check character behind it:
// all behind STX up to and with ETX, by exclusive or.
func sealIEC62056(block []byte) []byte {
	out := append([]byte{meterSTX}, block...)
	out = append(out, meterETX)
	var sum byte
	for _, c := range out[1:] {
		sum ^= c
	}
	return append(out, sum)
}

// pushIEC62056 is what a meter of mode D sends by itself: its identification and the bare data block.
func pushIEC62056(t telegram) ([]byte, error) {
	block, err := blockIEC62056(t)
	if err != nil {
		return nil, err
	}
	ident := t.sender
	if ident == "" {
		ident = "TWINLINE"
	}
	return append([]byte("/TWL3"+ident+"\r\n\r\n"), block...), nil
}
