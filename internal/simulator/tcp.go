package simulator

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// MBAP header, Modbus Messaging on TCP/IP Implementation Guide V1.0b section 3.1.3.
const (
	mbapLength = 7
	maxPDU     = 253
)

// maxTCPClients bounds the connections of one simulated TCP line.
const maxTCPClients = 64

// serveTCP answers clients on l until ctx ends.
func (l *line) serveTCP(ctx context.Context, listener net.Listener) {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer closeWith(ctx, listener)()
	slots := make(chan struct{}, maxTCPClients)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		clients.Go(func() {
			defer func() { <-slots }()
			l.serveConn(ctx, conn)
		})
	}
}

func (l *line) serveConn(ctx context.Context, conn net.Conn) {
	defer closeWith(ctx, conn)()
	in := bufio.NewReader(conn)
	frame := make([]byte, mbapLength+maxPDU)
	for {
		if _, err := io.ReadFull(in, frame[:mbapLength]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(frame[4:])) - 1 // without the unit id
		if binary.BigEndian.Uint16(frame[2:]) != 0 || n < 1 || n > maxPDU {
			return // not Modbus: a device closes
		}
		if _, err := io.ReadFull(in, frame[mbapLength:mbapLength+n]); err != nil {
			return
		}
		unit := l.unit(frame[6])
		if unit == nil {
			continue // nobody of that id on this line: silence
		}
		pdu, fault, faulty := unit.answer(frame[mbapLength : mbapLength+n])
		reply := append(make([]byte, 0, mbapLength+len(pdu)), frame[:mbapLength]...)
		reply = append(reply, pdu...)
		binary.BigEndian.PutUint16(reply[4:], uint16(len(pdu)+1))
		if !faulty {
			fault.Do = ""
		}
		switch fault.Do {
		case Corrupt:
			reply[3] ^= 0x5a
		case WrongUnit:
			reply[6]++
		case WrongTransaction:
			reply[0] ^= 0x80
		case Close:
			return
		}
		if play(ctx, conn, reply, fault) != nil {
			return
		}
	}
}

// play sends a reply as the fault wants it.
func play(ctx context.Context, w io.Writer, reply []byte, fault Fault) error {
	switch fault.Do {
	case Drop, Close:
		return nil
	case Hang:
		return pause(ctx, fault.delay())
	case Late:
		if err := pause(ctx, fault.delay()); err != nil {
			return err
		}
	case Split:
		half := len(reply) / 2
		if _, err := w.Write(reply[:half]); err != nil {
			return err
		}
		if err := pause(ctx, fault.delay()); err != nil {
			return err
		}
		reply = reply[half:]
	case Truncate:
		reply = reply[:len(reply)/2]
	case Noise:
		reply = append(glitch(), reply...)
	}
	_, err := w.Write(reply)
	return err
}

// glitch returns what a disturbed line shows: some bytes with the highest bit set, so that they are no text.
func glitch() []byte {
	b := make([]byte, 4+rand.IntN(12))
	for i := range b {
		b[i] = byte(0x80 + rand.IntN(0x80))
	}
	return b
}

// closeWith closes c when ctx ends, or when the returned function is called,
// which returns when c is closed for good and its address is free.
func closeWith(ctx context.Context, c io.Closer) func() {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.Close()
		close(closed)
	})
	return func() {
		if stop() {
			_ = c.Close()
			return
		}
		<-closed
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.New("stopped")
	}
}
