package uplink

import (
	"context"
	"fmt"
	"time"

	"github.com/twinline/twinline/internal/spool"
	"github.com/twinline/twinline/pkg/twin"
)

// receive takes one message of the bus. It checks it, and puts it on its way to disk.
// What finds no room is dropped and counted: it is not acknowledged, so its
// mapper sends it again.
func (s *session) receive(ctx context.Context, topic string, payload []byte) {
	it, err := parse(topic, payload)
	if err != nil {
		s.counts.refused.Add(1)
		if s.refused.First(topic) {
			s.log.Warn("message refused; further ones on this topic are counted only", "topic", topic, "error", err)
		}
		return
	}
	patience := receivePause
	if s.health.stalled() {
		patience = 0
	}
	if !s.intake.put(ctx, it, patience) {
		s.counts.overflow.Add(1)
		s.tracker.refused(it.id, time.Now())
	}
}

// parse checks a message against the contract of the bus.
func parse(topic string, payload []byte) (item, error) {
	id, ok := twin.DeviceOfTopic(topic)
	if !ok {
		return item{}, fmt.Errorf("the topic names no device")
	}
	var sample twin.Sample
	if err := sample.UnmarshalJSON(payload); err != nil {
		return item{}, err
	}
	if sample.Device != id {
		return item{}, fmt.Errorf("the sample is of device %s", sample.Device)
	}
	return item{name{id, twin.Position{Epoch: sample.Epoch, Seq: sample.Seq}}, payload}, nil
}

// storeSamples moves samples from the intake to the spool until ctx ends. Only
// here the tracker learns of samples, so nothing is acknowledged before its sync.
func (s *session) storeSamples(ctx context.Context) error {
	for {
		items := s.intake.take(ctx, storeRecords)
		if items == nil {
			return nil
		}
		items, doubles := s.sift(items)
		if len(items) > 0 {
			last, ok := s.append(ctx, items)
			if !ok {
				return nil
			}
			now := time.Now()
			for i := range items {
				if s.tracker.stored(items[i].id, items[i].pos, now) {
					s.acknowledge(items[i].id)
				}
			}
			s.counts.stored.Add(uint64(len(items)))
			s.through.Store(last)
			signal(s.wake)
		}
		for _, it := range doubles {
			s.tracker.again(it.id, it.pos, time.Now())
			s.acknowledge(it.id) // its mapper seems not to know what is stored
		}
	}
}

// sift parts the fresh samples from those that are, or will be, on disk already
// or are of an earlier epoch. Others are left out.
func (s *session) sift(items []item) (kept, doubles []item) {
	taken := make(map[name]struct{}, len(items))
	epochs := make(map[twin.DeviceID]uint64)
	for _, it := range items {
		v := s.tracker.judge(it.id, it.pos)
		if _, ok := taken[it.name]; ok {
			v = duplicate
		}
		if it.pos.Epoch < epochs[it.id] {
			v = stale
		}
		switch v {
		case fresh:
			taken[it.name] = struct{}{}
			epochs[it.id] = it.pos.Epoch
			kept = append(kept, it)
		case duplicate:
			s.counts.duplicate.Add(1)
			doubles = append(doubles, it)
		case stale:
			s.noteStale(it)
			doubles = append(doubles, it)
		case excess:
			s.counts.refused.Add(1)
			if s.refused.First("more devices") {
				s.log.Warn("more devices than the bound; their samples are refused", "bound", s.cfg.MaxDevices, "device", it.id)
			}
		}
	}
	return kept, doubles
}

func (s *session) noteStale(it item) {
	s.counts.stale.Add(1)
	if s.refused.First("epoch of " + it.id.String()) {
		s.log.Warn("a sample of an earlier epoch is not stored; has its mapper lost its --state?",
			"device", it.id, "epoch", it.pos.Epoch, "seq", it.pos.Seq)
	}
}

// acknowledge has the device's position published.
func (s *session) acknowledge(id twin.DeviceID) {
	if p, ok := s.tracker.position(id); ok {
		s.acks.say(id, p)
	}
}

// append stores the items, and tries until it can; ok is false when ctx ended.
func (s *session) append(ctx context.Context, items []item) (last uint64, ok bool) {
	records := make([]spool.Record, len(items))
	for i := range items {
		records[i] = spool.Record{Key: items[i].id.String(), Data: items[i].payload}
	}
	for {
		last, err := s.store.Append(ctx, records...)
		if ctx.Err() != nil {
			return 0, false // if they are stored, the next start finds them
		}
		if err == nil {
			if s.health.setStoring(nil) {
				s.log.Info("samples are stored again")
			}
			return last, true
		}
		if s.health.setStoring(fmt.Errorf("samples cannot be stored: %w", err)) {
			s.log.Error("samples cannot be stored; they stay with their mappers", "full", spool.IsFull(err), "error", err)
		}
		if !pause(ctx, storeRetry) {
			return 0, false
		}
	}
}
