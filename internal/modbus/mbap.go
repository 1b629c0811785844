package modbus

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/goburrow/modbus"
)

// Frames of Modbus TCP, Modbus Messaging on TCP/IP V1.0b section 3.1.3.
const (
	mbapHeader = 7
	maxPDU     = 253
	maxMBAP    = mbapHeader + maxPDU
)

// numberStep is how far the transaction numbers of two requests are apart: an odd
// number, so that all 65536 are used before one comes again, and a large one, so that
// a device that is off by one does not hit on the next request's.
const numberStep = 40503

// mbap carries Modbus TCP. Each request has a transaction number of the line's own,
// which only its answer has: an answer to an earlier request is discarded, and
// the connection stays usable after a timeout.
type mbap struct {
	*conn
	datagrams bool
	number    uint16
	in        [2 * maxMBAP]byte
	n         int // bytes in in
	used      int // of them, by the last frame
}

func newMBAP(c *conn, datagrams bool) *mbap {
	return &mbap{conn: c, datagrams: datagrams, number: uint16(rand.Uint32())}
}

// Exchange implements Transport.
func (m *mbap) Exchange(ctx context.Context, request []byte, timeout time.Duration) ([]byte, error) {
	if len(request) <= mbapHeader {
		return nil, fault(whyMismatch, "a request of %d bytes", len(request))
	}
	want, err := shapeOf(request[mbapHeader], request[mbapHeader+1:])
	if err != nil {
		return nil, fault(whyMismatch, "request to %s: %w", m.name, err)
	}
	if m.stream == nil {
		m.n, m.used = 0, 0
	}
	if err := m.connect(ctx, timeout); err != nil {
		return nil, err
	}
	defer m.arm(ctx, timeout)()
	m.number += numberStep
	asked := binary.BigEndian.Uint16(request)
	binary.BigEndian.PutUint16(request, m.number)
	defer binary.BigEndian.PutUint16(request, asked)
	if err := m.send(ctx, request); err != nil {
		return nil, err
	}
	for {
		frame, err := m.next(ctx)
		if err != nil {
			return nil, err
		}
		if binary.BigEndian.Uint16(frame) != m.number {
			m.count.Late.Add(1)
			continue
		}
		function, data := frame[mbapHeader], frame[mbapHeader+1:]
		if frame[mbapHeader-1] != request[mbapHeader-1] || !want.answers(function, data) {
			m.count.Foreign.Add(1)
			err := fault(whyMismatch, "answer of %s is of unit %d and function %d with %d bytes; asked was unit %d, function %d",
				m.name, frame[mbapHeader-1], function, len(data), request[mbapHeader-1], want.function)
			m.drop(err) // what it sends cannot be trusted
			return nil, err
		}
		if function&exceptionFlag != 0 {
			m.count.Exceptions.Add(1)
		}
		m.answered()
		binary.BigEndian.PutUint16(frame, asked)
		return frame, nil
	}
}

// next returns the next frame, valid until the next call.
func (m *mbap) next(ctx context.Context) ([]byte, error) {
	m.n = copy(m.in[:], m.in[m.used:m.n])
	m.used = 0
	for {
		size, bad := mbapSize(m.in[:m.n])
		if bad {
			m.count.Damaged.Add(1)
			err := fault(whyMismatch, "%s sent % x, which is no Modbus header", m.name, m.in[:mbapHeader])
			m.drop(err)
			return nil, err
		}
		if size > 0 && m.n >= size {
			m.used = size
			return m.in[:size], nil
		}
		if m.datagrams {
			m.n = 0 // a frame is in one datagram
		}
		n, err := m.stream.Read(m.in[m.n:])
		m.count.Received.Add(uint64(n))
		m.n += n
		if n > 0 {
			m.silent = 0
		}
		if err != nil && n == 0 {
			return nil, m.failed(ctx, "read from", err)
		}
	}
}

// mbapSize returns the size of the frame that buf begins with, 0 if buf is too
// short to tell. bad means that it is no frame.
func mbapSize(buf []byte) (size int, bad bool) {
	if len(buf) < mbapHeader {
		return 0, false
	}
	length := int(binary.BigEndian.Uint16(buf[4:])) // of unit, function and data
	if buf[2] != 0 || buf[3] != 0 || length < 3 || length > 1+maxPDU {
		return 0, true
	}
	return mbapHeader - 1 + length, false
}

func mbapPackager(unit byte) modbus.Packager {
	h := modbus.NewTCPClientHandler("")
	h.SlaveId = unit
	return h
}
