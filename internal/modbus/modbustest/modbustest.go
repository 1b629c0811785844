// Package modbustest plays Modbus devices that misbehave on command. It frames
// and checks on its own, so that it cannot share a mistake with internal/modbus.
package modbustest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Framing is how PDUs travel.
type Framing int

// The framings.
const (
	MBAP Framing = iota
	RTU
	ASCII
)

// Fault says what happens to one answer. The zero Fault is none.
type Fault struct {
	Delay     time.Duration // before the answer; requests that come meanwhile wait
	Split     int           // bytes after which the answer pauses for Gap
	Gap       time.Duration
	Drop      bool // no answer
	Corrupt   bool // a bit of the answer is flipped
	Cut       int  // bytes missing at the end of the answer
	Unit      byte // the answer names this unit; 0: the right one
	Number    bool // the answer names another transaction (MBAP)
	Length    bool // the answer names a length that is wrong (MBAP), or carries two bytes more (else)
	Exception byte // the answer is this exception
	Hang      bool // nothing is read or answered any more
	Close     bool // the connection ends instead of the answer
	Twice     bool // the answer comes twice
	Noise     []byte
}

// Request is what a script sees.
type Request struct {
	N    int // of all requests to the server, from 0
	Unit byte
	PDU  []byte
}

// Server answers requests from its units. Set it up before Serve.
type Server struct {
	Framing Framing
	Units   map[byte]*Bank
	Script  func(Request) Fault // nil: no faults

	mu sync.Mutex
	n  int
}

// Bank is the memory of one unit. It is safe for concurrent use.
type Bank struct {
	mu        sync.Mutex
	Coils     map[uint16]bool   // of tables 0 and 1
	Registers map[uint16]uint16 // of tables 3 and 4; absent ones hold their own address
	// Illegal makes a read or write of these addresses exception 2.
	Illegal func(function byte, address, count int) bool
	// Unknown functions answer exception 1; Ignored ones nothing at all.
	Unknown, Ignored []byte
	// Stamp makes the last register of each read of two and more the number of reads so far.
	Stamp bool
	reads uint16
	asked [][]byte
}

// Reads returns how many reads the bank has answered.
func (b *Bank) Reads() uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reads
}

// Asked returns the PDUs that came.
func (b *Bank) Asked() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}

// Register returns a register.
func (b *Bank) Register(address uint16) uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.register(address)
}

// Coil returns a coil.
func (b *Bank) Coil(address uint16) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Coils[address]
}

func (b *Bank) register(address uint16) uint16 {
	if v, ok := b.Registers[address]; ok {
		return v
	}
	return address
}

// Answer answers one PDU; nil is silence.
func (b *Bank) Answer(pdu []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, slices.Clone(pdu))
	function := pdu[0]
	switch {
	case slices.Contains(b.Ignored, function):
		return nil
	case slices.Contains(b.Unknown, function) || len(pdu) < 5:
		return []byte{function | 0x80, 1}
	case function == 8:
		return pdu
	}
	address, count := binary.BigEndian.Uint16(pdu[1:]), int(binary.BigEndian.Uint16(pdu[3:]))
	switch function {
	case 5, 6, 22:
		count = 1
	}
	if int(address)+count > 65536 || (b.Illegal != nil && b.Illegal(function, int(address), count)) {
		return []byte{function | 0x80, 2}
	}
	switch function {
	case 1, 2:
		return b.readBits(function, address, count)
	case 3, 4:
		return b.readRegisters(function, address, count)
	}
	return b.write(pdu, address, count)
}

func (b *Bank) readBits(function byte, address uint16, count int) []byte {
	if count < 1 || count > 2000 {
		return []byte{function | 0x80, 3}
	}
	b.reads++
	out := make([]byte, 2+(count+7)/8)
	out[0], out[1] = function, byte((count+7)/8)
	for i := range count {
		if b.Coils[address+uint16(i)] {
			out[2+i/8] |= 1 << (i % 8)
		}
	}
	return out
}

func (b *Bank) readRegisters(function byte, address uint16, count int) []byte {
	if count < 1 || count > 125 {
		return []byte{function | 0x80, 3}
	}
	b.reads++
	out := []byte{function, byte(2 * count)}
	for i := range count {
		out = binary.BigEndian.AppendUint16(out, b.register(address+uint16(i)))
	}
	if b.Stamp && count > 1 {
		binary.BigEndian.PutUint16(out[len(out)-2:], b.reads)
	}
	return out
}

func (b *Bank) write(pdu []byte, address uint16, count int) []byte {
	value := binary.BigEndian.Uint16(pdu[3:])
	if b.Coils == nil {
		b.Coils = map[uint16]bool{}
	}
	if b.Registers == nil {
		b.Registers = map[uint16]uint16{}
	}
	switch pdu[0] {
	case 5:
		b.Coils[address] = value == 0xFF00
	case 6:
		b.Registers[address] = value
	case 15:
		for i := range count {
			b.Coils[address+uint16(i)] = pdu[6+i/8]>>(i%8)&1 == 1
		}
		return pdu[:5]
	case 16:
		for i := range count {
			b.Registers[address+uint16(i)] = binary.BigEndian.Uint16(pdu[6+2*i:])
		}
		return pdu[:5]
	case 22:
		or := binary.BigEndian.Uint16(pdu[5:])
		b.Registers[address] = b.register(address)&value | or&^value
		return pdu[:7]
	default:
		return []byte{pdu[0] | 0x80, 1}
	}
	return pdu[:5]
}

// ErrHung is returned by Serve after a Hang, once the peer has closed.
var ErrHung = errors.New("modbustest: hung")

// Serve answers requests on rw until it fails, or a Fault ends it; then it closes rw.
func (s *Server) Serve(rw io.ReadWriteCloser) error {
	defer rw.Close()
	var buf []byte
	chunk := make([]byte, 1024)
	for {
		for {
			head, unit, pdu, size := s.cut(buf)
			if size == 0 {
				break
			}
			buf = buf[size:]
			if done, err := s.answer(rw, head, unit, pdu); done {
				return err
			}
		}
		n, err := rw.Read(chunk)
		buf = append(buf, chunk[:n]...)
		if err != nil {
			return err
		}
	}
}

func (s *Server) answer(rw io.ReadWriter, head [2]byte, unit byte, pdu []byte) (done bool, err error) {
	bank := s.Units[unit]
	if bank == nil {
		return false, nil // silence, as on a bus
	}
	s.mu.Lock()
	request := Request{N: s.n, Unit: unit, PDU: slices.Clone(pdu)}
	s.n++
	s.mu.Unlock()
	var f Fault
	if s.Script != nil {
		f = s.Script(request)
	}
	switch {
	case f.Hang:
		_, err := io.Copy(io.Discard, rw)
		return true, errors.Join(ErrHung, err)
	case f.Close:
		return true, nil
	}
	answer := bank.Answer(slices.Clone(pdu))
	time.Sleep(f.Delay)
	if f.Drop || answer == nil {
		return false, nil
	}
	if f.Exception != 0 {
		answer = []byte{pdu[0] | 0x80, f.Exception}
	}
	frame := s.frame(f, head, unit, answer)
	if f.Twice {
		frame = append(frame, frame...)
	}
	if f.Split > 0 && f.Split < len(frame) {
		if _, err := rw.Write(frame[:f.Split]); err != nil {
			return true, err
		}
		time.Sleep(f.Gap)
		frame = frame[f.Split:]
	}
	_, err = rw.Write(frame)
	return err != nil, err
}

// frame wraps an answer, with the faults that frames have.
func (s *Server) frame(f Fault, head [2]byte, unit byte, pdu []byte) []byte {
	if f.Unit != 0 {
		unit = f.Unit
	}
	if f.Length && s.Framing != MBAP {
		pdu = append(pdu, 0, 0)
		if pdu[0] <= 4 {
			pdu[1] += 2
		}
	}
	frame := Wrap(s.Framing, head, unit, pdu)
	if s.Framing == MBAP {
		if f.Number {
			frame[1]++
		}
		if f.Length {
			frame[4] = 0x7F
		}
		if f.Corrupt {
			frame[2] ^= 0x10
		}
	} else if f.Corrupt {
		frame[len(frame)/2] ^= 0x04
	}
	frame = frame[:max(0, len(frame)-f.Cut)]
	return append(slices.Clone(f.Noise), frame...)
}

// Wrap makes a frame of a PDU; number is the transaction of an MBAP frame.
func Wrap(f Framing, number [2]byte, unit byte, pdu []byte) []byte {
	body := append([]byte{unit}, pdu...)
	switch f {
	case MBAP:
		return append([]byte{number[0], number[1], 0, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	case RTU:
		crc := crc16(body)
		return append(body, byte(crc), byte(crc>>8))
	}
	sum := byte(0)
	for _, b := range body {
		sum -= b
	}
	return []byte(":" + strings.ToUpper(hex.EncodeToString(append(body, sum))) + "\r\n")
}

// cut takes a request off the start of buf.
func (s *Server) cut(buf []byte) (head [2]byte, unit byte, pdu []byte, size int) {
	switch s.Framing {
	case MBAP:
		if len(buf) < 7 {
			return head, 0, nil, 0
		}
		size = 6 + int(binary.BigEndian.Uint16(buf[4:]))
		if len(buf) < size {
			return head, 0, nil, 0
		}
		return [2]byte{buf[0], buf[1]}, buf[6], buf[7:size], size
	case RTU:
		size = requestSize(buf)
		if size == 0 || len(buf) < size {
			return head, 0, nil, 0
		}
		return head, buf[0], buf[1 : size-2], size
	}
	end := strings.Index(string(buf), "\r\n")
	if end < 0 {
		return head, 0, nil, 0
	}
	body, err := hex.DecodeString(string(buf[1:end]))
	if err != nil || len(body) < 3 {
		return head, 0, []byte{0}, end + 2
	}
	return head, body[0], body[1 : len(body)-1], end + 2
}

func requestSize(buf []byte) int {
	if len(buf) < 7 {
		return 0
	}
	switch buf[1] {
	case 15, 16:
		return 9 + int(buf[6])
	case 22:
		return 10
	}
	return 8
}

func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			odd := crc&1 == 1
			crc >>= 1
			if odd {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// Change sets coils, or the bits of mask in registers, from address on.
func (b *Bank) Change(coils bool, address uint16, words []uint16, mask uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, w := range words {
		if coils {
			b.Coils[address+uint16(i)] = w != 0
		} else {
			b.Registers[address+uint16(i)] = b.register(address+uint16(i))&^mask | w&mask
		}
	}
}
