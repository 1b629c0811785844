package uplink

import (
	"context"
	"sync"
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// name names a sample for ever.
type name struct {
	id  twin.DeviceID
	pos twin.Position
}

// item is a sample on its way to disk, as it came.
type item struct {
	name
	payload []byte
}

// itemOverhead is what an item takes in memory beside its payload, roughly, in bytes.
const itemOverhead = 256

// intake holds items between the bus and the disk, up to a number of bytes. One
// goroutine puts, one takes.
type intake struct {
	maxBytes int64
	more     chan struct{} // a token when items are there
	room     chan struct{} // a token when some were taken

	mu    sync.Mutex
	items []item
	bytes int64
}

func newIntake(maxBytes int64) *intake {
	return &intake{maxBytes: maxBytes, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put adds an item. When there is no room it waits as long as patience, and then
// reports false.
func (q *intake) put(ctx context.Context, it item, patience time.Duration) bool {
	if q.tryPut(it) {
		return true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-q.room:
			if q.tryPut(it) {
				return true
			}
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (q *intake) tryPut(it item) bool {
	size := int64(len(it.payload) + itemOverhead)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 && q.bytes+size > q.maxBytes {
		return false
	}
	q.items = append(q.items, it)
	q.bytes += size
	signal(q.more)
	return true
}

// take waits for items and returns up to n of them, the oldest first; nil when ctx ends.
func (q *intake) take(ctx context.Context, n int) []item {
	for {
		if items := q.tryTake(n); len(items) > 0 {
			signal(q.room)
			return items
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *intake) tryTake(n int) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.items))
	items := q.items[:n:n]
	q.items = q.items[n:]
	for i := range items {
		q.bytes -= int64(len(items[i].payload) + itemOverhead)
	}
	if len(q.items) == 0 {
		q.items = nil
	}
	return items
}

// signal puts a token into a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
