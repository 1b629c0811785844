package framing

import "time"

// queue is first in, first out, without allocating once it has grown.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

// live is what is in the queue; it is valid until the next push.
func (q *queue[T]) live() []T { return q.items[q.head:] }

func (q *queue[T]) pop() {
	q.head++
	if q.head == len(q.items) {
		q.clear()
	}
}

func (q *queue[T]) clear() { q.items, q.head = q.items[:0], 0 }

// push moves what is left to the front when more than half is gone, so each item is
// moved less than once on average.
func (q *queue[T]) push(v T) {
	if q.head > len(q.items)-q.head {
		q.items, q.head = q.items[:copy(q.items, q.items[q.head:])], 0
	}
	q.items = append(q.items, v)
}

// mark says when the bytes up to a position of the stream came.
type mark struct {
	end uint64
	at  time.Time
}
