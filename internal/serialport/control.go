package serialport

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rs485 is struct serial_rs485 of include/uapi/linux/serial.h.
type rs485 struct {
	flags  uint32
	before uint32 // milliseconds
	after  uint32
	_      [5]uint32 // addresses of 9-bit protocols, and room
}

// SER_RS485_… of include/uapi/linux/serial.h.
const (
	rs485Enabled   = 1 << 0
	rs485OnSend    = 1 << 1
	rs485AfterSend = 1 << 2
)

// wire translates it for the kernel.
func (r RS485) wire() rs485 {
	if r.Mode != On {
		return rs485{}
	}
	w := rs485{flags: rs485Enabled | rs485OnSend, before: uint32(r.Before / time.Millisecond), after: uint32(r.After / time.Millisecond)}
	if r.RTS == Off {
		w.flags = rs485Enabled | rs485AfterSend
	}
	return w
}

// setRS485 sets the mode of the tty at fd, and checks what the driver made of it.
func setRS485(fd int, r RS485) error {
	if r.Mode == AsIs {
		return nil
	}
	w := r.wire()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSRS485, uintptr(unsafe.Pointer(&w)))
	switch {
	case errno == 0 && w.flags&rs485Enabled == 0 && r.Mode == On:
		return errors.New("its driver left the RS-485 mode off; leave rs485 out and use a transceiver that finds the direction itself")
	case errno == 0, errno == unix.ENOTTY && r.Mode == Off: // it cannot be on
		return nil
	case errno == unix.ENOTTY:
		return fmt.Errorf("its driver has no RS-485 mode: %w; leave rs485 out and use a transceiver that finds the direction itself", errno)
	}
	return fmt.Errorf("set its RS-485 mode: %w", errno)
}

// setSignals sets RTS and DTR as far as they are asked for.
func (p *Port) setSignals(c Config) error {
	for _, s := range []struct {
		name string
		to   Switch
		set  func(bool) error
	}{{keyRTS, c.RTS, p.port.SetRTS}, {keyDTR, c.DTR, p.port.SetDTR}} {
		if s.to == AsIs {
			continue
		}
		err := s.set(s.to == On)
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("it has no signal %s: %w; leave %s out of its settings", s.name, err, s.name)
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

// tolerance is by how many percent the rate of a port may differ from the one that
// was asked for: a receiver samples the last of ten bits in its middle, which 5 % would miss, and the other side has an error too.
const tolerance = 3

// checkBaud compares the rate that the driver took with the one asked for: one that
// cannot have it takes another, and says nothing.
func checkBaud(fd, baud int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("read its settings: %w", err)
	}
	if took := int(t.Ospeed); took != 0 && max(took-baud, baud-took)*100 > baud*tolerance {
		return fmt.Errorf("its driver took %d baud in place of %d; use a rate that the adapter has", took, baud)
	}
	return nil
}

// drainPause is how often drain looks whether the buffer is empty.
const drainPause = time.Millisecond

// drain waits until all that was written has left, or the write deadline has passed.
func (p *Port) drain() error {
	for {
		left, err := p.control(func(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCOUTQ) })
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		if err := p.expired(); err != nil {
			return err
		}
		time.Sleep(drainPause)
	}
	for { // what is left is in the transmitter. A signal, of which Go's scheduler sends many, ends the ioctl
		if err := p.port.Drain(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
