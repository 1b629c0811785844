package modbus

import (
	"bytes"

	"github.com/goburrow/modbus"
)

// framing cuts the bytes of a serial line into frames; the frames themselves
// are goburrow/modbus's.
type framing interface {
	// split looks at the start of buf: it returns how many bytes there are no
	// frame (skip) and how long the frame behind them is, 0 if more bytes
	// are needed to tell. bad means that what is there cannot be a frame.
	split(buf []byte) (skip, size int, bad bool)
	// open checks a frame and takes it apart; data is valid as long as frame.
	open(frame []byte) (unit, function byte, data []byte, ok bool)
	// packager returns the packager of a unit, for one goroutine.
	packager(unit byte) modbus.Packager
}

// Bounds of frames, Modbus over Serial Line V1.02 sections 2.5.1 and 2.5.2.
const (
	minRTU   = 4
	maxRTU   = 256
	minASCII = 9
	maxASCII = 513
)

type rtuFraming struct{}

// split sizes an RTU answer from its first three bytes.
func (rtuFraming) split(buf []byte) (skip, size int, bad bool) {
	if len(buf) < 3 {
		return 0, 0, false
	}
	switch function := buf[1]; {
	case function&exceptionFlag != 0:
		size = 5
	case function >= modbus.FuncCodeReadCoils && function <= modbus.FuncCodeReadInputRegisters:
		size = 5 + int(buf[2])
	case function == modbus.FuncCodeWriteSingleCoil, function == modbus.FuncCodeWriteSingleRegister, function == funcDiagnostics,
		function == modbus.FuncCodeWriteMultipleCoils, function == modbus.FuncCodeWriteMultipleRegisters:
		size = 8
	case function == modbus.FuncCodeMaskWriteRegister:
		size = 10
	}
	if size < minRTU || size > maxRTU {
		return 0, 0, true
	}
	if len(buf) < size {
		return 0, 0, false
	}
	return 0, size, false
}

func (rtuFraming) open(frame []byte) (unit, function byte, data []byte, ok bool) {
	if len(frame) < minRTU {
		return 0, 0, nil, false
	}
	var p modbus.RTUClientHandler
	pdu, err := p.Decode(frame)
	if err != nil {
		return 0, 0, nil, false
	}
	return frame[0], pdu.FunctionCode, pdu.Data, true
}

func (rtuFraming) packager(unit byte) modbus.Packager {
	h := modbus.NewRTUClientHandler("")
	h.SlaveId = unit
	return h
}

type asciiFraming struct{}

func (asciiFraming) split(buf []byte) (skip, size int, bad bool) {
	skip = bytes.IndexByte(buf, ':')
	if skip < 0 {
		return len(buf), 0, false
	}
	buf = buf[skip:]
	end := bytes.Index(buf, []byte("\r\n"))
	switch {
	case bytes.IndexByte(buf[1:], ':') >= 0 && (end < 0 || bytes.IndexByte(buf[1:], ':')+1 < end):
		return skip, 0, true // a frame that begins within another
	case end < 0:
		return skip, 0, len(buf) >= maxASCII
	case end+2 < minASCII || end+2 > maxASCII || end%2 == 0:
		return skip, 0, true
	}
	return skip, end + 2, false
}

func (asciiFraming) open(frame []byte) (unit, function byte, data []byte, ok bool) {
	var p modbus.ASCIIClientHandler
	pdu, err := p.Decode(frame)
	if err != nil {
		return 0, 0, nil, false
	}
	unit, ok = hexByte(frame[1:3])
	return unit, pdu.FunctionCode, pdu.Data, ok
}

func hexByte(b []byte) (byte, bool) {
	var n byte
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | (c - '0')
		case c >= 'A' && c <= 'F':
			n = n<<4 | (c - 'A' + 10)
		case c >= 'a' && c <= 'f':
			n = n<<4 | (c - 'a' + 10)
		default:
			return 0, false
		}
	}
	return n, true
}

func (asciiFraming) packager(unit byte) modbus.Packager {
	h := modbus.NewASCIIClientHandler("")
	h.SlaveId = unit
	return h
}
