package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// The tables of a Modbus device, as mbpoll's -t names them.
const (
	coilTable    = "0"
	inputTable   = "3:hex"
	holdingTable = "4:hex"
)

// mbpoll reads count words, or coils, from a device with Debian's mbpoll, which
// shares nothing with Twinline.
func mbpoll(ctx context.Context, line string, unit int, table string, address, count int) ([]uint16, error) {
	host, port, err := net.SplitHostPort(line)
	if err != nil {
		return nil, err
	}
	return poll(ctx, count, "-m", "tcp", "-p", port, "-a", strconv.Itoa(unit), "-t", table, "-r", strconv.Itoa(address), host)
}

// showsSerial returns nil when a device on a serial line holds the word. Nobody else may have the line open.
func showsSerial(ctx context.Context, line string, unit, address int, want uint16) error {
	got, err := poll(ctx, 1, "-m", "rtu", "-b", "38400", "-P", "none", "-a", strconv.Itoa(unit), "-t", holdingTable, "-r", strconv.Itoa(address), line)
	if err == nil && got[0] != want {
		err = fmt.Errorf("unit %d on %s at %d: %04x, want %04x", unit, line, address, got[0], want)
	}
	return err
}

// poll runs mbpoll once and returns the words it shows.
func poll(ctx context.Context, count int, args ...string) ([]uint16, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	args = append([]string{"-q", "-1", "-0", "-c", strconv.Itoa(count)}, args...)
	out, err := exec.CommandContext(ctx, "mbpoll", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("mbpoll %v: %w: %s", args, err, out)
	}
	var words []uint16
	for _, m := range regexp.MustCompile(`(?m)^\[\d+\]:\s+(\S+)`).FindAllSubmatch(out, -1) {
		w, err := strconv.ParseUint(string(m[1]), 0, 16)
		if err != nil {
			return nil, fmt.Errorf("mbpoll answers %q: %w", m[0], err)
		}
		words = append(words, uint16(w))
	}
	if len(words) != count {
		return nil, fmt.Errorf("mbpoll answers %d words, want %d: %s", len(words), count, out)
	}
	return words, nil
}

// shows returns nil when the device holds the words.
func shows(ctx context.Context, line string, unit int, table string, address int, want ...uint16) error {
	got, err := mbpoll(ctx, line, unit, table, address, len(want))
	if err != nil {
		return err
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("%s unit %d table %s at %d: %04x, want %04x", line, unit, table, address, got, want)
		}
	}
	return nil
}

// master speaks Modbus TCP in raw frames. It is for one goroutine at a time.
type master struct {
	conn net.Conn
	next uint16
}

// dial connects to a line.
func dial(t *testing.T, line string) *master {
	t.Helper()
	conn, err := net.DialTimeout("tcp", line, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &master{conn: conn}
}

// exchange sends one request and returns the data of its answer.
func (m *master) exchange(unit byte, pdu []byte) ([]byte, error) {
	m.next++
	frame := binary.BigEndian.AppendUint16(nil, m.next)
	frame = append(frame, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(pdu)+1))
	frame = append(append(frame, unit), pdu...)
	if err := m.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := m.conn.Write(frame); err != nil {
		return nil, err
	}
	var head [7]byte
	if _, err := io.ReadFull(m.conn, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint16(head[4:])
	if binary.BigEndian.Uint16(head[:]) != m.next || head[6] != unit || length < 3 || length > 254 {
		return nil, fmt.Errorf("answer %x to request %d of unit %d", head, m.next, unit)
	}
	answer := make([]byte, length-1)
	if _, err := io.ReadFull(m.conn, answer); err != nil {
		return nil, err
	}
	if answer[0] != pdu[0] {
		return nil, fmt.Errorf("unit %d answers function %d with %x", unit, pdu[0], answer)
	}
	return answer[1:], nil
}

// write sets holding registers (function 16).
func (m *master) write(unit byte, address uint16, words ...uint16) error {
	pdu := binary.BigEndian.AppendUint16([]byte{16}, address)
	pdu = binary.BigEndian.AppendUint16(pdu, uint16(len(words)))
	pdu = append(pdu, byte(2*len(words)))
	for _, w := range words {
		pdu = binary.BigEndian.AppendUint16(pdu, w)
	}
	_, err := m.exchange(unit, pdu)
	return err
}

// read returns holding registers (function 3).
func (m *master) read(unit byte, address, count uint16) ([]uint16, error) {
	pdu := binary.BigEndian.AppendUint16([]byte{3}, address)
	data, err := m.exchange(unit, binary.BigEndian.AppendUint16(pdu, count))
	if err != nil {
		return nil, err
	}
	if len(data) != 1+2*int(count) {
		return nil, errors.New("an answer of another length")
	}
	words := make([]uint16, count)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(data[1+2*i:])
	}
	return words, nil
}

// coil returns one coil (function 1).
func (m *master) coil(unit byte, address uint16) (bool, error) {
	data, err := m.exchange(unit, append(binary.BigEndian.AppendUint16([]byte{1}, address), 0, 1))
	if err != nil {
		return false, err
	}
	if len(data) != 2 {
		return false, fmt.Errorf("answer %x to a request for one coil", data)
	}
	return data[1]&1 == 1, nil
}
