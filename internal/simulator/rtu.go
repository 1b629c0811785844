package simulator

import (
	"context"
	"encoding/binary"
	"io"
	"time"
)

// quiet is the silence after which a serial line's input is taken for a new
// frame: generous, since a pty has no character times.
const quiet = 20 * time.Millisecond

// maxRTU is the longest RTU frame, Modbus over Serial Line V1.02 section 2.5.1.
const maxRTU = 256

// serveRTU answers requests on a serial line until ctx ends or port is closed.
func (l *line) serveRTU(ctx context.Context, port io.ReadWriter) {
	bytes := make(chan []byte)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		readAll(ctx, port, bytes)
	}()
	defer func() { <-ended }()
	var frame, last []byte
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case b := <-bytes:
			frame = append(frame, b...)
		case <-timer.C:
			frame = nil // what was left is no frame
		}
		for {
			n := requestLength(frame)
			if n == 0 || len(frame) < n {
				break
			}
			if crcOK(frame[:n]) {
				last = l.answerRTU(ctx, port, frame[:n], last)
				frame = frame[n:]
			} else {
				frame = nil
			}
		}
		if len(frame) > maxRTU {
			frame = nil
		}
		timer.Reset(quiet)
	}
}

func readAll(ctx context.Context, port io.Reader, to chan<- []byte) {
	for {
		b := make([]byte, maxRTU)
		n, err := port.Read(b)
		if err != nil {
			return
		}
		select {
		case to <- b[:n]:
		case <-ctx.Done():
			return
		}
	}
}

// answerRTU answers one frame and returns the reply it would have sent.
func (l *line) answerRTU(ctx context.Context, port io.Writer, frame, last []byte) []byte {
	unit := l.unit(frame[0])
	if unit == nil || frame[0] == 0 {
		return last
	}
	pdu, fault, faulty := unit.answer(frame[1 : len(frame)-2])
	reply := append([]byte{frame[0]}, pdu...)
	if !faulty {
		fault.Do = ""
	}
	if fault.Do == WrongUnit {
		reply[0]++
	}
	reply = appendCRC(reply)
	send := reply
	switch fault.Do {
	case Corrupt:
		send = append([]byte(nil), reply...)
		send[len(send)-1] ^= 0x5a
	case WrongTransaction:
		if last != nil {
			send = last
		}
	}
	_ = play(ctx, port, send, fault) // a line that is gone ends serveRTU by its reader
	return reply
}

// requestLength returns how long the request frame is that b begins, 0 if that is not known yet.
func requestLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case writeCoils, writeRegisters:
		if len(b) < 7 {
			return 0
		}
		return 9 + int(b[6])
	case maskWrite:
		return 10
	case readWrite:
		if len(b) < 11 {
			return 0
		}
		return 13 + int(b[10])
	}
	return 8
}

func crcOK(frame []byte) bool {
	n := len(frame) - 2
	return n > 0 && binary.LittleEndian.Uint16(frame[n:]) == crc16(frame[:n])
}

func appendCRC(b []byte) []byte { return binary.LittleEndian.AppendUint16(b, crc16(b)) }

// crc16 is CRC-16/MODBUS, Modbus over Serial Line V1.02 section 6.2.2. It is written
// here on its own so that the simulator does not share a mistake with the mapper.
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0xA001
			}
		}
	}
	return crc
}
