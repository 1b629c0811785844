package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twinline/twinline/internal/serial"
)

// mapperSide hears a tape as the serial mapper hears a line: the port's reader, its locks and its clock, the framing, the check,
// the message and the fields that the device declares. What it leaves out is what comes after: to
// keep the last value of each property until it is due.
func mapperSide(s *stream) side {
	return func(tape io.Reader, found *outcome) error {
		decl, problems := serial.Parse(s.declared())
		if len(problems) > 0 {
			return fmt.Errorf("declare the device: %w", problems[0])
		}
		// A line that begins with the first byte heard is not believed: it may have begun before.
		line := &recorded{Reader: io.MultiReader(strings.NewReader("\n"), tape), over: make(chan struct{})}
		port := serial.NewPort(decl.Config.Endpoint, func(context.Context) (serial.Stream, error) { return line, nil })
		port.Listen(&decl.Config, func(m *serial.Message) {
			found.Frames++
			for i := range decl.Fields {
				f := &decl.Fields[i]
				v, quality, has := f.Read(m)
				if !has {
					continue
				}
				_, _ = decl.Config.Time(m)
				if x, ok := v.AsFloat(); ok && quality.IsGood() {
					found.take(i, x)
				}
			}
		})
		if _, err := port.Open(context.Background(), time.Second); err != nil {
			return err
		}
		<-line.over
		return port.Close()
	}
}

// recorded is a line on which a tape is played.
type recorded struct {
	io.Reader
	over chan struct{} // closed when the port has seen the tape's end
	once sync.Once
}

// Close implements serial.Stream.
func (r *recorded) Close() error { r.once.Do(func() { close(r.over) }); return nil }

// Write implements serial.Stream.
func (r *recorded) Write(p []byte) (int, error) { return len(p), nil }

// SetReadDeadline implements serial.Stream.
func (r *recorded) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements serial.Stream.
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// plainSentences reads two sentences without their checksums.
func plainSentences(tape io.Reader, found *outcome) error {
	rmc := regexp.MustCompile(`^\$..RMC,[^,]*,A,(\d+)(\d\d\.\d+),([NS]),(\d+)(\d\d\.\d+),([EW]),([\d.]+),`)
	gga := regexp.MustCompile(`^\$..GGA,[^,]*,[^,]*,[NS],[^,]*,[EW],[1-8],[^,]*,[^,]*,(-?[\d.]+),M,`)
	s := bufio.NewScanner(tape)
	for s.Scan() {
		line := s.Bytes()
		found.Frames++
		if at := rmc.FindSubmatchIndex(line); at != nil {
			number := func(group int) float64 {
				x, _ := strconv.ParseFloat(string(line[at[2*group]:at[2*group+1]]), 64)
				return x
			}
			latitude, longitude := number(1)+number(2)/60, number(4)+number(5)/60
			if line[at[6]] == 'S' {
				latitude = -latitude
			}
			if line[at[12]] == 'W' {
				longitude = -longitude
			}
			found.take(0, latitude)
			found.take(1, longitude)
			found.take(2, number(7))
		} else if at := gga.FindSubmatchIndex(line); at != nil {
			x, err := strconv.ParseFloat(string(line[at[2]:at[3]]), 64)
			if err == nil {
				found.take(3, x)
			}
		}
	}
	return s.Err()
}

func plainPairs(tape io.Reader, found *outcome) error {
	pattern := regexp.MustCompile(`^TEMP=([-+0-9.]+) HUM=([-+0-9.]+) P=([-+0-9.]+)`)
	s := bufio.NewScanner(tape)
	for s.Scan() {
		line := s.Bytes()
		found.Frames++
		at := pattern.FindSubmatchIndex(line)
		if at == nil {
			continue
		}
		for i := range 3 {
			x, err := strconv.ParseFloat(string(line[at[2*i+2]:at[2*i+3]]), 64)
			if err == nil {
				found.take(i, x)
			}
		}
	}
	return s.Err()
}

// plainFrames reads frames that begin where the tape does: it checks nothing and would never find back.
func plainFrames(tape io.Reader, found *outcome) error {
	r := bufio.NewReader(tape)
	var frame [32]byte
	for {
		_, err := io.ReadFull(r, frame[:])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		found.Frames++
		for i := range 6 {
			found.take(i, float64(binary.BigEndian.Uint16(frame[4+2*i:])))
		}
	}
}
