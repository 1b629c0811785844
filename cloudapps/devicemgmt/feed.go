package devicemgmt

import (
	"container/list"
	"context"
	"encoding/json"
	"sync"

	"github.com/twinline/twinline/pkg/twin"
)

// maxTombstones bounds how many devices that are gone the feed remembers. A
// reader that is further behind starts anew.
const maxTombstones = 4096

// change is one device as it is now; JSON is nil if it is gone.
type change struct {
	Seq  uint64
	ID   twin.DeviceID
	JSON []byte
}

// feed holds the newest state of every device in the order of their latest
// changes. Readers keep a cursor, the Seq they have seen, and ask for what came
// after. So there is one entry per device however many readers there are and
// however slow they are: a slow one misses steps, never the last one.
type feed struct {
	mu         sync.Mutex
	seq        uint64
	order      *list.List // of *change, by Seq
	byID       map[twin.DeviceID]*list.Element
	tombstones int
	forgotten  uint64        // Seq of the newest tombstone dropped
	changed    chan struct{} // closed at the next change
}

func newFeed() *feed {
	return &feed{order: list.New(), byID: map[twin.DeviceID]*list.Element{}, changed: make(chan struct{})}
}

// put records the view of a device; nil if it is gone. Equal views in a row are one change.
func (f *feed) put(id twin.DeviceID, v *View) {
	var data []byte
	if v != nil {
		data, _ = json.Marshal(v) // cannot fail: no maps with odd keys, no functions, no NaN
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e, known := f.byID[id]
	switch {
	case known && string(e.Value.(*change).JSON) == string(data):
		return
	case known:
		if e.Value.(*change).JSON == nil {
			f.tombstones--
		}
		f.order.Remove(e)
	case data == nil:
		return // was never there
	}
	f.seq++
	f.byID[id] = f.order.PushBack(&change{Seq: f.seq, ID: id, JSON: data})
	if data == nil {
		f.tombstones++
		f.bury()
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// bury drops the oldest tombstones beyond the bound.
func (f *feed) bury() {
	for e := f.order.Front(); e != nil && f.tombstones > maxTombstones; {
		next := e.Next()
		if c := e.Value.(*change); c.JSON == nil {
			f.order.Remove(e)
			delete(f.byID, c.ID)
			f.forgotten = c.Seq
			f.tombstones--
		}
		e = next
	}
}

// after returns up to limit changes that follow cursor, oldest first.
func (f *feed) after(cursor uint64, limit int) []change {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.order.Back()
	if e == nil || e.Value.(*change).Seq <= cursor {
		return nil
	}
	if cursor == 0 {
		e = f.order.Front()
	} else {
		for p := e.Prev(); p != nil && p.Value.(*change).Seq > cursor; p = e.Prev() {
			e = p
		}
	}
	var changes []change
	for ; e != nil && len(changes) < limit; e = e.Next() {
		changes = append(changes, *e.Value.(*change))
	}
	return changes
}

// complete reports whether a reader at cursor can go on without missing that a
// device is gone.
func (f *feed) complete(cursor uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cursor >= f.forgotten && cursor <= f.seq
}

// last returns the Seq of the newest change.
func (f *feed) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq
}

// wait returns nil when there is a change after cursor, or ctx's error.
func (f *feed) wait(ctx context.Context, cursor uint64) error {
	for {
		f.mu.Lock()
		news, changed := f.seq > cursor, f.changed
		f.mu.Unlock()
		if news {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
