package link

import (
	"container/heap"
	"context"
	"time"
)

// waiter is one call of Do.
type waiter struct {
	ctx      context.Context
	req      *Request
	station  *station
	deadline time.Time
	result   chan error // holds one

	in    *queue // nil when it waits no more
	index int
	order int64 // the smallest goes first; among equals the smallest seq
	seq   uint64
}

// queue is a priority queue of waiters. The zero queue is empty.
type queue struct{ items []*waiter }

func (q *queue) push(w *waiter) {
	w.in = q
	heap.Push(q, w)
}

func (q *queue) pop() *waiter {
	w := heap.Pop(q).(*waiter)
	w.in = nil
	return w
}

func (q *queue) remove(w *waiter) {
	heap.Remove(q, w.index)
	w.in = nil
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q *queue) Len() int { return len(q.items) }

// Less implements heap.Interface.
func (q *queue) Less(i, j int) bool {
	a, b := q.items[i], q.items[j]
	return a.order < b.order || (a.order == b.order && a.seq < b.seq)
}

// Swap implements heap.Interface.
func (q *queue) Swap(i, j int) {
	q.items[i], q.items[j] = q.items[j], q.items[i]
	q.items[i].index, q.items[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	w := x.(*waiter)
	w.index = len(q.items)
	q.items = append(q.items, w)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(q.items) - 1
	w := q.items[last]
	q.items[last] = nil
	q.items = q.items[:last]
	return w
}
