// Package history holds the words by which the storage service and the
// databases it writes to speak about telemetry that is stored for ever: a Batch,
// the Spans of sequence numbers that are stored, a Point that is read back. It does no I/O.
package history

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// Batch is what one transaction stores: of one Kafka topic the next events of
// some partitions, each partition at most once.
type Batch struct {
	Topic  string
	Ranges []Range
}

// Range is a piece of one partition. The events in it may be fewer than its
// offsets: what could not be read, and what Kafka keeps for itself, has none.
type Range struct {
	Partition int32
	From      int64        // the offset that the database holds as the next one
	Next      int64        // the offset that it holds afterwards
	Events    []twin.Event // in the order of their offsets
}

// Events returns the number of events in the batch.
func (b *Batch) Events() int {
	n := 0
	for i := range b.Ranges {
		n += len(b.Ranges[i].Events)
	}
	return n
}

// Outcome says what a commit did.
type Outcome struct {
	Rows       int    // readings stored
	Events     int    // events stored
	Duplicates int    // events left out because they were stored before
	Missed     uint64 // sequence numbers that were passed over
	Filled     uint64 // sequence numbers that were passed over before and came now
}

// Errors by which a store tells the storage service what to do.
var (
	// ErrFenced means that the database's offset is not the batch's From: another
	// storage service, or an earlier try of this one, has been there. Nothing was
	// committed; read the offsets again.
	ErrFenced = errors.New("the offsets in the database are others than expected")

	// ErrRefused means that the database refuses the data of at least one event
	// in the batch, and will do so however often it is tried. Nothing was committed.
	ErrRefused = errors.New("the database refuses the data")
)

// MaxSequence is the highest epoch and sequence number that can be stored: they
// are 64-bit signed integers in the databases, and the end of a span is kept as the number after it.
const MaxSequence = math.MaxInt64 - 1

// Check reports what no database can take; the error wraps ErrRefused.
func Check(e *twin.Event) error {
	if e.Epoch > MaxSequence || e.Seq > MaxSequence {
		return fmt.Errorf("%w: epoch %d, seq %d: at most %d can be stored", ErrRefused, e.Epoch, e.Seq, int64(MaxSequence))
	}
	return nil
}

// Point is one stored reading.
type Point struct {
	Property string
	Time     time.Time // UTC, microseconds
	Value    twin.Value
	Quality  twin.Quality
	Epoch    uint64 // zero from other producers
	Seq      uint64
}

// MaxPoints bounds how many points one query returns.
const MaxPoints = 100_000

// Hole is a run of sequence numbers that were passed over.
type Hole struct {
	Device string
	Epoch  uint64
	Span
}
