package history

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twinline/twinline/pkg/twin"
)

// Stream names the sequence that a watermark belongs to.
type Stream struct {
	Device string
	Epoch  uint64
}

// Streams returns the streams of the batch's numbered events, each once, in
// the order in which every store locks their watermarks.
func (b *Batch) Streams() []Stream {
	seen := map[Stream]struct{}{}
	var streams []Stream
	for i := range b.Ranges {
		for j := range b.Ranges[i].Events {
			e := &b.Ranges[i].Events[j]
			s := Stream{e.DeviceID, e.Epoch}
			if _, ok := seen[s]; e.Epoch == 0 || ok {
				continue
			}
			seen[s] = struct{}{}
			streams = append(streams, s)
		}
	}
	slices.SortFunc(streams, func(a, b Stream) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Epoch, b.Epoch))
	})
	return streams
}

// Sift takes the batch's numbered events into marks, which hold the watermark
// of each of its Streams, and returns the events to be stored: the new ones and
// those without a number. An event whose number is Forgotten cannot be told from a
// duplicate; it is refused, so that it is kept elsewhere: the error wraps ErrRefused.
func Sift(b *Batch, marks map[Stream]*Spans) ([]*twin.Event, Outcome, error) {
	var out Outcome
	events := make([]*twin.Event, 0, b.Events())
	for i := range b.Ranges {
		for j := range b.Ranges[i].Events {
			e := &b.Ranges[i].Events[j]
			if e.Epoch != 0 {
				spans, ok := marks[Stream{e.DeviceID, e.Epoch}]
				if !ok {
					return nil, Outcome{}, fmt.Errorf("no watermark of device %.80q, epoch %d", e.DeviceID, e.Epoch)
				}
				highest := spans.Highest()
				switch spans.Add(e.Seq) {
				case Duplicate:
					out.Duplicates++
					continue
				case Forgotten:
					return nil, Outcome{}, fmt.Errorf("%w: device %.80q, epoch %d: seq %d comes after more than %d holes, and may have been stored",
						ErrRefused, e.DeviceID, e.Epoch, e.Seq, MaxSpans)
				}
				if e.Seq < highest {
					out.Filled++
				} else {
					out.Missed += e.Seq - highest - 1
				}
			}
			events = append(events, e)
			out.Rows += len(e.Readings)
		}
	}
	out.Events = len(events)
	return events, out, nil
}
