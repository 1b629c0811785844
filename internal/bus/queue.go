package bus

import "sync"

// Bounds of what waits for one subscription's handler.
const (
	MaxQueued      = 1024     // messages: some seconds of a busy node
	MaxQueuedBytes = 32 << 20 // payload bytes: more than Mosquitto sends unacknowledged (20 messages) of the largest samples (1 MiB)
)

// delivery is one message on its way to one handler.
type delivery struct {
	topic   string
	payload []byte
	done    func() // tells that the handler has returned; nil if nobody asks
}

// queue holds the deliveries of one subscription, oldest first. It never blocks push.
type queue struct {
	mu    sync.Mutex
	items []delivery
	bytes int
	wake  chan struct{} // holds a token when items may not be empty
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// push appends d. When the queue is full it drops the oldest, or, with
// keep, refuses d. It returns how many were dropped and whether d is in.
func (q *queue) push(d delivery, keep bool) (dropped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 && (len(q.items) >= MaxQueued || q.bytes+len(d.payload) > MaxQueuedBytes) {
		if keep {
			return 0, false
		}
		q.drop()
		dropped++
	}
	q.items = append(q.items, d)
	q.bytes += len(d.payload)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return dropped, true
}

// pop removes and returns the oldest.
func (q *queue) pop() (delivery, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return delivery{}, false
	}
	d := q.items[0]
	q.drop()
	return d, true
}

// drop removes the oldest; mu is held.
func (q *queue) drop() {
	q.bytes -= len(q.items[0].payload)
	q.items[0] = delivery{}
	q.items = q.items[1:]
	if len(q.items) == 0 {
		q.items = nil
	}
}

// clear empties the queue.
func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.bytes = nil, 0
}
