package simulator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is one entry of a fault script: of the requests to a device, or the frames that it sends by itself, those from
// number After (counted from 0), every Every-th, at most Times of them.
type Fault struct {
	Do    string   `json:"do"`              // see FaultNames
	After uint64   `json:"after,omitempty"` //
	Every uint64   `json:"every,omitempty"` // 0 and 1: each
	Times uint64   `json:"times,omitempty"` // 0: without end
	Delay Duration `json:"delay,omitempty"` // of late, split and hang
	Code  uint8    `json:"code,omitempty"`  // of exception; default 4, server device failure
}

// The faults.
const (
	Late             = "late"              // the reply comes after Delay (default 1s)
	Split            = "split"             // the reply comes in two parts, Delay apart (default 20ms)
	Drop             = "drop"              // no reply
	Corrupt          = "corrupt"           // a damaged reply: its checksum on a Modbus line, its header over TCP, a byte of it turned over from a serial instrument
	Exception        = "exception"         // a Modbus exception; from a serial instrument an answer that the declaration calls refused
	Hang             = "hang"              // no reply, and nothing is read for Delay (default 5s)
	Close            = "close"             // the connection is closed; on a line that is none as Drop
	WrongUnit        = "wrong-unit"        // the reply names another unit
	WrongTransaction = "wrong-transaction" // the reply names another transaction; on a serial line it repeats the last reply
	Noise            = "noise"             // bytes that are none of its own come before the reply
	Truncate         = "truncate"          // half the reply, then nothing
)

// FaultNames lists the faults.
func FaultNames() []string {
	return []string{Late, Split, Drop, Corrupt, Exception, Hang, Close, WrongUnit, WrongTransaction, Noise, Truncate}
}

// maxFaultDelay bounds Fault.Delay.
const maxFaultDelay = time.Hour

func (f Fault) check() error {
	if !slices.Contains(FaultNames(), f.Do) {
		return fmt.Errorf("unknown fault %q; known are %s", f.Do, strings.Join(FaultNames(), ", "))
	}
	if d := time.Duration(f.Delay); d < 0 || d > maxFaultDelay {
		return fmt.Errorf("delay %s; want 0 to %s", d, maxFaultDelay)
	}
	return nil
}

// delay returns Delay, or the default of the fault.
func (f Fault) delay() time.Duration {
	if f.Delay != 0 {
		return time.Duration(f.Delay)
	}
	switch f.Do {
	case Late:
		return time.Second
	case Split:
		return 20 * time.Millisecond
	}
	return 5 * time.Second
}

// faults is the script of one unit as it is played. It is not safe for concurrent use.
type faults struct {
	script []Fault
	played []uint64
	seen   uint64
}

func newFaults(script []Fault) *faults {
	return &faults{script: script, played: make([]uint64, len(script))}
}

// next counts one request and returns the fault for it, if any: the first that applies.
func (f *faults) next() (Fault, bool) {
	n := f.seen
	f.seen++
	for i, s := range f.script {
		if n < s.After || (s.Times > 0 && f.played[i] >= s.Times) || (s.Every > 1 && (n-s.After)%s.Every != 0) {
			continue
		}
		f.played[i]++
		return s, true
	}
	return Fault{}, false
}
