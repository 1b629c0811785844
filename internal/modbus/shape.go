package modbus

import (
	"encoding/binary"
	"errors"

	"github.com/goburrow/modbus"
)

// Function codes that goburrow/modbus has no name for.
const (
	funcDiagnostics = 8
	exceptionFlag   = 0x80
)

// shape is what the answer to a request looks like, as far as the request tells.
// Shapes are comparable.
type shape struct {
	function byte
	bytes    int     // of a read: how many the answer carries
	echo     [6]byte // of a write or a diagnosis: what the answer repeats
	echoed   int     // how much of it
}

var errUnknownFunction = errors.New("modbus: a function this transport does not know")

// shapeOf returns the shape of the answer to pdu.
func shapeOf(function byte, data []byte) (shape, error) {
	s := shape{function: function}
	echo := 0
	switch function {
	case modbus.FuncCodeReadCoils, modbus.FuncCodeReadDiscreteInputs, modbus.FuncCodeReadHoldingRegisters, modbus.FuncCodeReadInputRegisters:
		if len(data) != 4 {
			return s, errUnknownFunction
		}
		n := int(binary.BigEndian.Uint16(data[2:]))
		s.bytes = 2 * n
		if function == modbus.FuncCodeReadCoils || function == modbus.FuncCodeReadDiscreteInputs {
			s.bytes = (n + 7) / 8
		}
		return s, nil
	case modbus.FuncCodeWriteSingleCoil, modbus.FuncCodeWriteSingleRegister, modbus.FuncCodeWriteMultipleCoils,
		modbus.FuncCodeWriteMultipleRegisters, funcDiagnostics:
		echo = 4
	case modbus.FuncCodeMaskWriteRegister:
		echo = 6
	}
	if echo == 0 || len(data) < echo {
		return s, errUnknownFunction
	}
	s.echoed = copy(s.echo[:echo], data)
	return s, nil
}

// fits reports whether an answer that is no exception has the shape.
func (s shape) fits(function byte, data []byte) bool {
	switch {
	case function != s.function:
		return false
	case s.echoed > 0:
		return len(data) == s.echoed && string(data) == string(s.echo[:s.echoed])
	}
	return len(data) == 1+s.bytes && int(data[0]) == s.bytes
}

// answers reports whether the answer may be one to a request of this shape: of
// the shape, or an exception to its function.
func (s shape) answers(function byte, data []byte) bool {
	if function == s.function|exceptionFlag {
		return len(data) == 1 && data[0] != 0
	}
	return s.fits(function, data)
}
