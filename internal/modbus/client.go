package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/goburrow/modbus"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/pkg/mapper"
)

// Client asks one unit: goburrow/modbus's client on a Transport of ours. Like
// the Transport, it is not safe for concurrent use.
type Client struct {
	api  modbus.Client
	call call
}

// call binds a Transport to one request.
type call struct {
	transport Transport
	timeout   time.Duration
	ctx       context.Context
}

// Send implements modbus.Transporter.
func (c *call) Send(request []byte) ([]byte, error) {
	return c.transport.Exchange(c.ctx, request, c.timeout)
}

// NewClient returns a client of one unit on t, which is the transport of c.Endpoint.
func NewClient(c *Config, t Transport) *Client {
	var p modbus.Packager
	switch c.Endpoint.Scheme {
	case TCP, UDP:
		p = mbapPackager(c.Unit)
	case ASCII, ASCIIOverTCP:
		p = asciiFraming{}.packager(c.Unit)
	default:
		p = rtuFraming{}.packager(c.Unit)
	}
	cl := &Client{call: call{transport: t, timeout: c.Timeout}}
	cl.api = modbus.NewClient2(p, &cl.call)
	return cl
}

// Read reads count bits or registers and returns their data as Field.Decode
// takes it, valid until the next call. Errors are mapper.Faults.
func (c *Client) Read(ctx context.Context, table Table, address, count uint16) ([]byte, error) {
	c.call.ctx = ctx
	var data []byte
	var err error
	switch table {
	case Coils:
		data, err = c.api.ReadCoils(address, count)
	case Discretes:
		data, err = c.api.ReadDiscreteInputs(address, count)
	case Holdings:
		data, err = c.api.ReadHoldingRegisters(address, count)
	default:
		data, err = c.api.ReadInputRegisters(address, count)
	}
	if err != nil {
		return nil, faultOf(err, table, address, count)
	}
	return data, nil
}

// coilOn is how function 5 writes a 1.
const coilOn = 0xFF00

// Write writes the words of Field.Encode from address on, each a coil or a
// register. A refusal of the device is final, see mapper.Rejected.
func (c *Client) Write(ctx context.Context, table Table, address uint16, words []uint16) error {
	c.call.ctx = ctx
	var err error
	switch {
	case table == Coils && words[0] != 0:
		_, err = c.api.WriteSingleCoil(address, coilOn)
	case table == Coils:
		_, err = c.api.WriteSingleCoil(address, 0)
	case len(words) == 1:
		_, err = c.api.WriteSingleRegister(address, words[0])
	default:
		data := make([]byte, 0, 2*len(words))
		for _, w := range words {
			data = binary.BigEndian.AppendUint16(data, w)
		}
		_, err = c.api.WriteMultipleRegisters(address, uint16(len(words)), data)
	}
	return refusal(faultOf(err, table, address, uint16(len(words))))
}

// WriteBits sets the bits of one holding register that mask names to those of
// bits: with function 22, or, where the device does not know it, with a read and a write in turn.
func (c *Client) WriteBits(ctx context.Context, address, mask, bits uint16) error {
	c.call.ctx = ctx
	_, err := c.api.MaskWriteRegister(address, ^mask, bits&mask)
	var exception *modbus.ModbusError
	if !errors.As(err, &exception) || exception.ExceptionCode != modbus.ExceptionCodeIllegalFunction {
		return refusal(faultOf(err, Holdings, address, 1))
	}
	data, err := c.Read(ctx, Holdings, address, 1)
	if err != nil {
		return refusal(err)
	}
	word := binary.BigEndian.Uint16(data)&^mask | bits&mask
	return c.Write(ctx, Holdings, address, []uint16{word})
}

// Exception returns the exception code in err, 0 if it is none.
func Exception(err error) byte {
	var exception *modbus.ModbusError
	if errors.As(err, &exception) {
		return exception.ExceptionCode
	}
	return 0
}

// Busy reports whether the device asks for the same request again, later.
func Busy(err error) bool {
	code := Exception(err)
	return code == modbus.ExceptionCodeAcknowledge || code == modbus.ExceptionCodeServerDeviceBusy
}

// Illegal reports whether the device refuses what was asked for: the address,
// or the number of registers.
func Illegal(err error) bool {
	code := Exception(err)
	return code == modbus.ExceptionCodeIllegalDataAddress || code == modbus.ExceptionCodeIllegalDataValue
}

// faultOf makes a Fault of what goburrow's client returns.
func faultOf(err error, table Table, address, count uint16) error {
	if err == nil {
		return nil
	}
	var f *mapper.Fault
	if errors.As(err, &f) {
		return err
	}
	why := whyMismatch
	code := Exception(err)
	if code != 0 {
		why = fmt.Sprintf("exception-%d", code)
	}
	if code == modbus.ExceptionCodeGatewayPathUnavailable || code == modbus.ExceptionCodeGatewayTargetDeviceFailedToRespond {
		err = fmt.Errorf("%w: the gateway says: %w", link.ErrSilent, err)
	}
	return &mapper.Fault{Why: why, Err: fmt.Errorf("%s %d, %d of them: %w", table, address, count, err)}
}

// refusal makes exceptions final that come again however often one writes.
func refusal(err error) error {
	var f *mapper.Fault
	if errors.As(err, &f) && (Illegal(err) || Exception(err) == modbus.ExceptionCodeIllegalFunction) {
		return &mapper.Fault{Why: f.Why, Refuse: true, Err: f.Err}
	}
	return err
}
