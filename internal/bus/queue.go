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

// queue holds the deliveries of one subscription, oldest first.
type queue struct {
	mu    sync.Mutex
	items []delivery
	bytes int
	wake  chan struct{} // holds a token when items may not be empty
	room  chan struct{} // holds a token when there may be room again
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// push appends d, after dropping the oldest until there is room. It returns how many it dropped.
func (q *queue) push(d delivery) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.full(d) {
		q.drop()
		dropped++
	}
	q.add(d)
	return dropped
}

// offer appends d if there is room.
func (q *queue) offer(d delivery) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full(d) {
		return false
	}
	q.add(d)
	return true
}

// full reports whether d does not fit; mu is held. An empty queue takes anything.
func (q *queue) full(d delivery) bool {
	return len(q.items) > 0 && (len(q.items) >= MaxQueued || q.bytes+len(d.payload) > MaxQueuedBytes)
}

// add appends d; mu is held.
func (q *queue) add(d delivery) {
	q.items = append(q.items, d)
	q.bytes += len(d.payload)
	token(q.wake)
}

// token puts a token into a channel of one slot.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
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
	token(q.room)
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
	token(q.room)
}
