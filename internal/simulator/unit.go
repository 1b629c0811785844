package simulator

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Modbus function codes and exception codes, Modbus Application Protocol V1.1b3 section 6 and 7.
const (
	readCoils       = 1
	readDiscrete    = 2
	readHolding     = 3
	readInput       = 4
	writeCoil       = 5
	writeRegister   = 6
	diagnostics     = 8
	writeCoils      = 15
	writeRegisters  = 16
	maskWrite       = 22
	readWrite       = 23
	exceptionFlag   = 0x80
	illegalFunction = 1
	illegalAddress  = 2
	illegalValue    = 3
	deviceFailure   = 4
)

// Bounds of one request, ibid. section 6.
const (
	maxReadBits       = 2000
	maxReadRegisters  = 125
	maxWriteBits      = 1968
	maxWriteRegisters = 123
)

// space is one of the four tables of a Modbus device.
type space uint8

const (
	coils space = iota
	discretes
	holdings
	inputs
	spaces
)

// cell is one property in a table: count addresses from address on.
type cell struct {
	property string
	space    space
	address  uint16
	count    uint16
	mask     uint16 // the bits of the register that are the property's
	wave     wave
	// encode gives the words of a value; for coils and discretes one word, 0 or 1.
	encode func(twin.Value) ([]uint16, error)
}

// Unit is one simulated Modbus device: what answers to one unit id on a line.
type Unit struct {
	id     twin.DeviceID
	start  time.Time
	strict bool

	mu       sync.Mutex
	cells    [spaces][]cell
	words    [spaces]map[uint16]uint16 // what is held, written or computed last
	lo, hi   [spaces]int               // declared addresses; lo > hi: none
	faults   *faults
	requests uint64
}

func newUnit(id twin.DeviceID, script DeviceScript, start time.Time) *Unit {
	u := &Unit{id: id, start: start, strict: script.Strict, faults: newFaults(script.Faults)}
	for s := range u.words {
		u.words[s] = map[uint16]uint16{}
		u.lo[s], u.hi[s] = 1<<16, -1
	}
	return u
}

// add puts a property into its table, with its first value.
func (u *Unit) add(c cell) {
	u.cells[c.space] = append(u.cells[c.space], c)
	u.lo[c.space] = min(u.lo[c.space], int(c.address))
	u.hi[c.space] = max(u.hi[c.space], int(c.address)+int(c.count)-1)
	for i := range c.count {
		u.words[c.space][c.address+i] += 0 // declared; a register may be shared
	}
	u.put(&c, c.wave.at(0))
}

// put encodes a value into the table. What cannot be encoded leaves the table as it was.
func (u *Unit) put(c *cell, v twin.Value) {
	words, err := c.encode(v)
	if err != nil || len(words) != int(c.count) {
		return
	}
	for i, w := range words {
		a := c.address + uint16(i)
		u.words[c.space][a] = u.words[c.space][a]&^c.mask | w&c.mask
	}
}

// Set makes a property show v until its wave or a write changes it; for tests.
func (u *Unit) Set(property string, v twin.Value) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.cells {
		for i := range u.cells[s] {
			if c := &u.cells[s][i]; c.property == property {
				c.wave.Wave.Wave, c.wave.fixed = "hold", v
				u.put(c, v)
				return true
			}
		}
	}
	return false
}

// Requests returns how many requests the unit has had.
func (u *Unit) Requests() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests
}

// answer returns the reply to a request, both as PDUs, and the fault to play with it.
func (u *Unit) answer(req []byte) (reply []byte, fault Fault, faulty bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests++
	fault, faulty = u.faults.next()
	if faulty && fault.Do == Exception {
		code := fault.Code
		if code == 0 {
			code = deviceFailure
		}
		return []byte{req[0] | exceptionFlag, code}, fault, true
	}
	reply, code := u.execute(req)
	if code != 0 {
		reply = []byte{req[0] | exceptionFlag, code}
	}
	return reply, fault, faulty
}

// execute carries a request out; code is an exception code, or 0.
func (u *Unit) execute(req []byte) (reply []byte, code byte) {
	body := req[1:]
	switch req[0] {
	case readCoils, readDiscrete:
		return u.readBits(req[0], body)
	case readHolding, readInput:
		return u.readRegisters(req[0], body)
	case writeCoil:
		return u.writeCoil(req, body)
	case writeRegister:
		if len(body) != 4 {
			return nil, illegalValue
		}
		return req, u.write(holdings, binary.BigEndian.Uint16(body), []uint16{binary.BigEndian.Uint16(body[2:])})
	case writeCoils:
		return u.writeCoils(body)
	case writeRegisters:
		return u.writeRegisters(body)
	case maskWrite:
		return u.maskWrite(req, body)
	case readWrite:
		return u.readWrite(body)
	case diagnostics:
		return req, 0 // sub-function 0 echoes; so do we for all
	}
	return nil, illegalFunction
}

func (u *Unit) readBits(fc byte, body []byte) ([]byte, byte) {
	if len(body) != 4 {
		return nil, illegalValue
	}
	s := map[byte]space{readCoils: coils, readDiscrete: discretes}[fc]
	address, n := binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
	if n == 0 || n > maxReadBits {
		return nil, illegalValue
	}
	words, code := u.read(s, address, n)
	if code != 0 {
		return nil, code
	}
	reply := make([]byte, 2+(n+7)/8)
	reply[0], reply[1] = fc, byte((n+7)/8)
	for i, w := range words {
		reply[2+i/8] |= byte(w&1) << (i % 8)
	}
	return reply, 0
}

func (u *Unit) readRegisters(fc byte, body []byte) ([]byte, byte) {
	if len(body) != 4 {
		return nil, illegalValue
	}
	s := map[byte]space{readHolding: holdings, readInput: inputs}[fc]
	n := binary.BigEndian.Uint16(body[2:])
	if n == 0 || n > maxReadRegisters {
		return nil, illegalValue
	}
	words, code := u.read(s, binary.BigEndian.Uint16(body), n)
	if code != 0 {
		return nil, code
	}
	reply := append(make([]byte, 0, 2+2*len(words)), fc, byte(2*n))
	for _, w := range words {
		reply = binary.BigEndian.AppendUint16(reply, w)
	}
	return reply, 0
}

// read computes the waves of the cells in range and returns the words.
func (u *Unit) read(s space, address, n uint16) ([]uint16, byte) {
	first, last := int(address), int(address)+int(n)-1
	if first < u.lo[s] || last > u.hi[s] {
		return nil, illegalAddress
	}
	since := time.Since(u.start)
	for i := range u.cells[s] {
		c := &u.cells[s][i]
		if c.wave.Wave.Wave != "hold" && int(c.address) <= last && int(c.address)+int(c.count) > first {
			u.put(c, c.wave.at(since))
		}
	}
	words := make([]uint16, n)
	for i := range words {
		w, declared := u.words[s][address+uint16(i)]
		if !declared && u.strict {
			return nil, illegalAddress
		}
		words[i] = w
	}
	return words, 0
}

// write stores words; undeclared addresses are refused.
func (u *Unit) write(s space, address uint16, words []uint16) byte {
	for i := range words {
		if _, ok := u.words[s][address+uint16(i)]; !ok || int(address)+i > u.hi[s] {
			return illegalAddress
		}
	}
	for i, w := range words {
		u.words[s][address+uint16(i)] = w
	}
	return 0
}

func (u *Unit) writeCoil(req, body []byte) ([]byte, byte) {
	if len(body) != 4 {
		return nil, illegalValue
	}
	switch binary.BigEndian.Uint16(body[2:]) {
	case 0xFF00:
		return req, u.write(coils, binary.BigEndian.Uint16(body), []uint16{1})
	case 0x0000:
		return req, u.write(coils, binary.BigEndian.Uint16(body), []uint16{0})
	}
	return nil, illegalValue
}

func (u *Unit) writeCoils(body []byte) ([]byte, byte) {
	if len(body) < 5 {
		return nil, illegalValue
	}
	n := int(binary.BigEndian.Uint16(body[2:]))
	if n == 0 || n > maxWriteBits || int(body[4]) != (n+7)/8 || len(body) != 5+(n+7)/8 {
		return nil, illegalValue
	}
	words := make([]uint16, n)
	for i := range words {
		words[i] = uint16(body[5+i/8]>>(i%8)) & 1
	}
	return append([]byte{writeCoils}, body[:4]...), u.write(coils, binary.BigEndian.Uint16(body), words)
}

func (u *Unit) writeRegisters(body []byte) ([]byte, byte) {
	if len(body) < 5 {
		return nil, illegalValue
	}
	n := int(binary.BigEndian.Uint16(body[2:]))
	if n == 0 || n > maxWriteRegisters || int(body[4]) != 2*n || len(body) != 5+2*n {
		return nil, illegalValue
	}
	return append([]byte{writeRegisters}, body[:4]...), u.write(holdings, binary.BigEndian.Uint16(body), wordsOf(body[5:]))
}

func (u *Unit) maskWrite(req, body []byte) ([]byte, byte) {
	if len(body) != 6 {
		return nil, illegalValue
	}
	address := binary.BigEndian.Uint16(body)
	and, or := binary.BigEndian.Uint16(body[2:]), binary.BigEndian.Uint16(body[4:])
	w := u.words[holdings][address]
	return req, u.write(holdings, address, []uint16{w&and | or&^and})
}

func (u *Unit) readWrite(body []byte) ([]byte, byte) {
	if len(body) < 9 || len(body) != 9+int(body[8]) || int(binary.BigEndian.Uint16(body[6:]))*2 != int(body[8]) {
		return nil, illegalValue
	}
	if code := u.write(holdings, binary.BigEndian.Uint16(body[4:]), wordsOf(body[9:])); code != 0 {
		return nil, code
	}
	reply, code := u.readRegisters(readHolding, body[:4])
	if code == 0 {
		reply[0] = readWrite
	}
	return reply, code
}

func wordsOf(b []byte) []uint16 {
	words := make([]uint16, len(b)/2)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return words
}
