package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

// This file is built into both programs of the serial benchmark, this one and the one with
// Telegraf's parsers, so that both are fed and measured by the same code. It knows the standard library only.

// chunk is how many bytes a read brings at most, as of a serial line under load.
const chunk = 1 << 10

// outcome is what one measurement of one side found. It is what the side prints, as JSON.
type outcome struct {
	Passes int // over the tape, that were measured
	Frames int // in all passes, also those before
	Values int // in all passes
	Sums   []float64
	CPU    time.Duration // of the passes, user and system, garbage collection included
	Wall   time.Duration
	Allocs uint64  // of the passes
	Bytes  uint64  // allocated in the passes
	All    int     // passes, measured and before
	Grown  float64 // MiB, of the flood
}

// take counts a value of the property with an index.
func (o *outcome) take(property int, x float64) {
	for len(o.Sums) <= property {
		o.Sums = append(o.Sums, 0)
	}
	o.Values++
	o.Sums[property] += x
}

// tape plays bytes over and over, in chunks, and measures what it costs the program to take them. The first passes
// warm the program up. It ends with io.EOF after whole passes.
type tape struct {
	data   []byte
	at     int
	found  *outcome
	warm   time.Time // when measuring begins
	length time.Duration
	began  moment
}

// moment is what a program has used until then.
type moment struct {
	at     time.Time
	cpu    time.Duration
	memory runtime.MemStats
}

func newTape(data []byte, warmUp, length time.Duration, found *outcome) *tape {
	return &tape{data: data, found: found, warm: time.Now().Add(warmUp), length: length}
}

// Read implements io.Reader.
func (t *tape) Read(p []byte) (int, error) {
	if t.at == len(t.data) && t.rewind() {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), chunk)], t.data[t.at:])
	t.at += n
	return n, nil
}

// rewind reports whether it was the last pass.
func (t *tape) rewind() (over bool) {
	t.at = 0
	t.found.All++
	now := time.Now()
	switch {
	case !t.began.at.IsZero():
		t.found.Passes++
		if now.Sub(t.began.at) < t.length {
			return false
		}
		end := used()
		t.found.Wall, t.found.CPU = end.at.Sub(t.began.at), end.cpu-t.began.cpu
		t.found.Allocs = end.memory.Mallocs - t.began.memory.Mallocs
		t.found.Bytes = end.memory.TotalAlloc - t.began.memory.TotalAlloc
		return true
	case now.After(t.warm):
		runtime.GC()
		t.began = used()
	}
	return false
}

func used() moment {
	var m moment
	runtime.ReadMemStats(&m.memory)
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail for the process itself
	m.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	m.at = time.Now()
	return m
}

// side takes a tape apart, to its end.
type side func(tape io.Reader, found *outcome) error

// play runs a side on a file for a while and prints the outcome.
func play(run side, file string, warmUp, length time.Duration) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the tape: %w", err)
	}
	var found outcome
	if err := run(newTape(data, warmUp, length, &found), &found); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
