package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/goburrow/modbus"

	"github.com/twinline/twinline/internal/link"
)

// serialLine carries RTU and ASCII frames, over a serial port or a transparent
// gateway. Such frames have no number. What keeps an old answer from being taken
// for a new one is in DESIGN.md: a unit answers in the order it was asked, so
// everything that it may still send is known, and no request goes out
// whose answer could be one of those.
type serialLine struct {
	*conn
	framing  framing
	quiet    time.Duration // t3.5: the silence between frames
	settling time.Duration // the silence after which a disturbed line is taken for quiet
	units    map[byte]*unit
	last     time.Time     // of the last byte sent or received
	dirty    bool          // a frame may be on its way
	window   time.Duration // how long after a timeout answers still came
	echo     uint16        // of the last fence
	in       [maxASCII + maxRTU]byte
	n        int // bytes in in
}

// unit is what is known of one device on the line.
type unit struct {
	// owed are the requests whose answers may still come, oldest first.
	owed []debt
	// plain makes the next fence a read: the unit did not answer the last echo.
	plain bool
}

type debt struct {
	shape
	sent time.Time
}

const (
	// maxOwed bounds what is remembered of a unit that does not answer.
	maxOwed = 64
	// forgetAfter is how long a unit with maxOwed debts is left alone, after which
	// nothing of them can be under way: ten times the longest response times of
	// slaves behind gateways.
	forgetAfter = 30 * time.Second
	// fastQuiet is t3.5 above 19200 baud, Modbus over Serial Line V1.02 section 2.5.1.1.
	fastQuiet = 1750 * time.Microsecond
	// minSettling covers the pace at which USB adapters and gateways hand over bytes: FTDI's is 16 ms.
	minSettling = 20 * time.Millisecond
	// maxWindow bounds the extra wait for late answers after a timeout.
	maxWindow = 500 * time.Millisecond
	// maxSettle bounds the wait for a line that never becomes quiet.
	maxSettle = 2 * time.Second
)

func newSerialLine(c *conn, e Endpoint) *serialLine {
	l := &serialLine{conn: c, framing: rtuFraming{}, units: map[byte]*unit{}, settling: minSettling, echo: uint16(rand.Uint32())}
	if e.Scheme == ASCII || e.Scheme == ASCIIOverTCP {
		l.framing = asciiFraming{}
	}
	if e.Scheme == RTU {
		l.quiet = e.silence()
		l.settling = max(l.settling, l.quiet)
	}
	return l
}

// silence is t3.5 of a serial port.
func (e Endpoint) silence() time.Duration {
	if e.Baud > 19200 {
		return fastQuiet
	}
	return e.char() * 7 / 2
}

// char is how long one character takes: start bit, data, parity, stop.
func (e Endpoint) char() time.Duration {
	bits := 1 + e.DataBits + e.StopBits
	if e.Parity != "none" {
		bits++
	}
	return time.Second * time.Duration(bits) / time.Duration(e.Baud)
}

// Exchange implements Transport.
func (l *serialLine) Exchange(ctx context.Context, request []byte, timeout time.Duration) ([]byte, error) {
	id, function, data, ok := l.framing.open(request)
	if !ok {
		return nil, fault(whyMismatch, "request to %s is no frame", l.name)
	}
	want, err := shapeOf(function, data)
	if err != nil {
		return nil, fault(whyMismatch, "request to %s: %w", l.name, err)
	}
	if l.stream == nil { // what comes right after opening answers nothing of ours
		if err := l.connect(ctx, timeout); err != nil {
			return nil, err
		}
		l.dirty, l.last = true, time.Now()
	}
	u := l.units[id]
	if u == nil {
		u = &unit{}
		l.units[id] = u
	}
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	if u.owes(want.function) {
		if err := l.fence(ctx, id, u, want, data, timeout); err != nil {
			return nil, err
		}
		if err := l.settle(ctx); err != nil {
			return nil, err
		}
	}
	return l.ask(ctx, u, request, want, timeout)
}

// ask sends one frame and waits for its answer.
func (l *serialLine) ask(ctx context.Context, u *unit, request []byte, want shape, timeout time.Duration) ([]byte, error) {
	if len(u.owed) >= maxOwed {
		if wait := forgetAfter - time.Since(u.owed[len(u.owed)-1].sent); wait > 0 {
			return nil, fault(whyTimeout, "%w: the unit on %s left %d requests open and is left alone for %s", link.ErrSilent, l.name, maxOwed, wait.Round(time.Second))
		}
		u.owed = u.owed[:0]
	}
	defer l.arm(ctx, timeout)()
	u.owed = append(u.owed, debt{want, time.Now()}) // even if sending fails: it may be out
	if err := l.send(ctx, request); err != nil {
		return nil, err
	}
	l.last = time.Now()
	for {
		frame, err := l.next(ctx)
		if err != nil {
			l.dirty = true
			l.window -= l.window / 8
			return nil, err
		}
		from, asked, mine := l.match(frame)
		if from == u && mine {
			l.answered()
			return frame, nil
		}
		if from != nil {
			l.window = min(max(l.window, 2*(time.Since(asked)-timeout)), maxWindow)
		}
	}
}

// match finds out which request a frame answers: the oldest it can answer. A
// unit answers in order, so nothing is owed from before that one any more. asked is when it was
// sent; mine is true if it was the unit's last.
func (l *serialLine) match(frame []byte) (u *unit, asked time.Time, mine bool) {
	id, function, data, _ := l.framing.open(frame)
	if u = l.units[id]; u != nil {
		for i := range u.owed {
			if !u.owed[i].answers(function, data) {
				continue
			}
			asked, mine = u.owed[i].sent, i == len(u.owed)-1
			u.owed = append(u.owed[:0], u.owed[i+1:]...)
			if !mine {
				l.count.Late.Add(1)
			} else if function&exceptionFlag != 0 {
				l.count.Exceptions.Add(1)
			}
			return u, asked, mine
		}
	}
	l.count.Foreign.Add(1)
	return nil, asked, false
}

// next returns the next good frame, valid until the next call.
func (l *serialLine) next(ctx context.Context) ([]byte, error) {
	for {
		frame, bad := l.cut()
		if bad {
			l.count.Damaged.Add(1)
			return nil, fault(whyChecksum, "answer on %s is damaged", l.name)
		}
		if frame != nil {
			return frame, nil
		}
		n, err := l.stream.Read(l.in[l.n:])
		l.took(n)
		if err != nil && n == 0 {
			return nil, l.failed(ctx, "read from", err)
		}
	}
}

func (l *serialLine) took(n int) {
	if n > 0 {
		l.n += n
		l.silent = 0
		l.last = time.Now()
		l.count.Received.Add(uint64(n))
	}
}

// cut takes a good frame off the start of the buffer, nil if there is none yet.
// What is bad stays for settle.
func (l *serialLine) cut() (frame []byte, bad bool) {
	skip, size, bad := l.framing.split(l.in[:l.n])
	if bad {
		return nil, true
	}
	if size == 0 {
		return nil, l.n-skip >= len(l.in)
	}
	frame = append([]byte(nil), l.in[skip:skip+size]...)
	if _, _, _, ok := l.framing.open(frame); !ok {
		return nil, true
	}
	l.n = copy(l.in[:], l.in[skip+size:l.n])
	return frame, false
}

// settle makes the line ready for a request: it takes what came meanwhile, and
// keeps t3.5 of silence. After a timeout or a damaged frame it waits until the line is quiet.
func (l *serialLine) settle(ctx context.Context) error {
	quiet, limit := l.quiet, time.Now().Add(maxSettle)
	if l.dirty || l.n > 0 {
		quiet = max(l.settling, l.window)
	}
	for {
		n, err := l.pending(max(0, quiet-time.Since(l.last)), ctx)
		if err != nil {
			l.drop(err)
			return fault(whyConnection, "%w: read from %s: %w", link.ErrDown, l.name, err)
		}
		l.took(n)
		l.absorb()
		if ctx.Err() != nil {
			return fault(whyTimeout, "wait for %s: %w", l.name, context.Cause(ctx))
		}
		if n == 0 && time.Since(l.last) >= quiet {
			l.n, l.dirty = 0, false
			return nil
		}
		if n > 0 {
			quiet = max(quiet, l.settling)
		}
		if time.Now().After(limit) {
			l.n = 0
			return fault(whyNoise, "%s is never quiet", l.name)
		}
	}
}

// absorb takes the frames out of the buffer that answer earlier requests. Where
// something is no frame, nothing behind it can be trusted to be one.
func (l *serialLine) absorb() {
	for l.n > 0 {
		frame, bad := l.cut()
		switch {
		case frame != nil:
			if _, _, mine := l.match(frame); mine {
				l.count.Late.Add(1)
			}
		case bad:
			l.n = 0
		default:
			return
		}
	}
}

// pending reads what is there, or comes within wait.
func (l *serialLine) pending(wait time.Duration, ctx context.Context) (int, error) {
	if p, ok := l.stream.(pender); ok && wait == 0 {
		return p.Pending(l.in[l.n:])
	}
	defer l.arm(ctx, max(wait, time.Millisecond))()
	n, err := l.stream.Read(l.in[l.n:])
	if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return n, nil
}

// owes reports whether the unit may still send an answer of this function. It
// goes by the function and not by the shape, for the sake of devices that answer with another length than was asked for.
func (u *unit) owes(function byte) bool {
	for i := range u.owed {
		if u.owed[i].function == function {
			return true
		}
	}
	return len(u.owed) >= maxOwed
}

// mistakable reports whether something that the unit may still send looks like an answer of
// this shape.
func (u *unit) mistakable(want shape) bool {
	for i := range u.owed {
		if u.owed[i].shape == want {
			return true
		}
	}
	return len(u.owed) >= maxOwed
}

// fence asks the unit something whose answer cannot be mistaken, after which
// it owes nothing of before: an echo with a number of
// its own (function 8, which units that do not know it answer with an exception), or,
// for units that ignore it, a read of another size. data is that of the request to come.
func (l *serialLine) fence(ctx context.Context, id byte, u *unit, want shape, data []byte, timeout time.Duration) error {
	l.echo++ // no two of the last 65536 fences have the same
	pdu := &modbus.ProtocolDataUnit{FunctionCode: funcDiagnostics, Data: []byte{0, 0, byte(l.echo >> 8), byte(l.echo)}}
	if u.plain {
		if read := u.odd(want, data); read != nil {
			pdu = read
		}
	}
	shape, err := shapeOf(pdu.FunctionCode, pdu.Data)
	if err != nil {
		return fault(whyMismatch, "fence %s: %w", l.name, err)
	}
	frame, err := l.framing.packager(id).Encode(pdu)
	if err != nil {
		return fault(whyMismatch, "fence %s: %w", l.name, err)
	}
	l.count.Fences.Add(1)
	_, err = l.ask(ctx, u, frame, shape, timeout)
	if l.stream != nil && !u.owes(want.function) {
		return nil
	}
	if errors.Is(err, link.ErrSilent) {
		u.plain = !u.plain
	}
	if err == nil {
		err = fault(whyTimeout, "%w: the unit on %s may still answer an earlier request", link.ErrSilent, l.name)
	}
	return err
}

// odd returns a read near the wanted one of a size that the unit owes nothing
// of, nil if there is none. Smaller ones come first: they are within what the device has.
func (u *unit) odd(want shape, data []byte) *modbus.ProtocolDataUnit {
	read := &modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeReadHoldingRegisters, Data: append([]byte(nil), data[:4]...)}
	unitBytes, perUnit, limit := 2, 1, maxReadRegisters
	switch want.function {
	case modbus.FuncCodeReadInputRegisters:
		read.FunctionCode = want.function
	case modbus.FuncCodeReadCoils, modbus.FuncCodeReadDiscreteInputs:
		read.FunctionCode = want.function
		unitBytes, perUnit, limit = 1, 8, maxReadCoils/8
	case modbus.FuncCodeWriteSingleCoil, modbus.FuncCodeWriteMultipleCoils:
		read.FunctionCode = modbus.FuncCodeReadCoils
		unitBytes, perUnit, limit = 1, 8, maxReadCoils/8
	}
	here := max(1, want.bytes/unitBytes)
	room := (lastAddress + 1 - int(binary.BigEndian.Uint16(data))) / perUnit
	for step := 1; step < 2*limit; step++ {
		size := here - step
		if size < 1 {
			size = step // past the small ones: the larger
		}
		if size == here && want.bytes > 0 || size > min(limit, room) {
			continue
		}
		if !u.mistakable(shape{function: read.FunctionCode, bytes: size * unitBytes}) {
			binary.BigEndian.PutUint16(read.Data[2:], uint16(size*perUnit))
			return read
		}
	}
	return nil
}
