package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/pkg/twin"
)

// EventType is the CloudEvents type of a telemetry event.
const EventType = "io.twinline.telemetry.v1"

// record makes the Kafka record of an event: the JSON, by device, with
// CloudEvents attributes as headers (Kafka protocol binding, binary mode).
func record(e *twin.Event, source string) kafka.Record {
	header := func(key, value string) kafka.Header { return kafka.Header{Key: key, Value: []byte(value)} }
	return kafka.Record{
		Key:   []byte(e.DeviceID),
		Value: e.AppendJSON(nil),
		Headers: []kafka.Header{
			header("ce_specversion", "1.0"),
			header("ce_id", eventID(e)),
			header("ce_source", source),
			header("ce_type", EventType),
			header("ce_time", e.Time.UTC().Format(twin.TimeLayout)),
			header("content-type", "application/json"),
		},
	}
}

// eventID names an event for ever: device/epoch/seq, or at random what has no number.
func eventID(e *twin.Event) string {
	if e.Epoch == 0 {
		return rand.Text()
	}
	return e.DeviceID + "/" + strconv.FormatUint(e.Epoch, 10) + "/" + strconv.FormatUint(e.Seq, 10)
}

// produce sends the events in their order, in chunks, and returns for each that
// is not known to be in Kafka the reason, by index. After a chunk that failed no
// further one is sent, but what was sent may arrive.
func (t *Telemetry) produce(ctx context.Context, events []twin.Event, source string) map[int]error {
	ctx, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	failed := map[int]error{}
	for from := 0; from < len(events); {
		records, size := []kafka.Record{}, 0
		for from+len(records) < len(events) && size < maxChunkBytes && len(records) < maxChunkRecords {
			r := record(&events[from+len(records)], source)
			records = append(records, r)
			size += len(r.Value)
		}
		t.produceChunk(ctx, records, from, failed)
		from += len(records)
		if away(failed) {
			for ; from < len(events); from++ {
				failed[from] = errStopped
			}
		}
	}
	return failed
}

var errStopped = errors.New("not sent, because one before it failed")

// away reports whether there is a failure that is not the event's own.
func away(failed map[int]error) bool {
	for _, err := range failed {
		if !kafka.TooLarge(err) {
			return true
		}
	}
	return false
}

func (t *Telemetry) produceChunk(ctx context.Context, records []kafka.Record, at int, failed map[int]error) {
	began := time.Now()
	err := t.deps.Producer.Produce(ctx, t.cfg.Topic, records)
	t.metrics.produce.Observe(time.Since(began).Seconds())
	if err == nil {
		return
	}
	var partly *kafka.ProduceError
	if !errors.As(err, &partly) {
		for i := range records {
			failed[at+i] = err
		}
		return
	}
	for i, index := range partly.Failed {
		failed[at+index] = partly.Errs[i]
	}
}

// stub is what is kept of a numbered event that is too large for Kafka: its
// place in the sequence, and that each property is bad:too-large.
func stub(e *twin.Event) twin.Event {
	s := *e
	s.Readings = make([]twin.Reading, len(e.Readings))
	for i := range e.Readings {
		s.Readings[i] = twin.BadReading(e.Readings[i].Property, "too-large")
	}
	return s
}

// produceAll sends the events of a batch; nil means that Kafka has all of them, those
// that are too large for it as stubs.
func (t *Telemetry) produceAll(ctx context.Context, events []twin.Event, source string) error {
	failed := t.produce(ctx, events, source)
	if len(failed) == 0 {
		return nil
	}
	var stubs []twin.Event
	for i := range events { // in their order
		err, isFailed := failed[i]
		if !isFailed {
			continue
		}
		if !kafka.TooLarge(err) {
			return fmt.Errorf("%d of %d events are not acknowledged, among them number %d: %w", len(failed), len(events), i, err)
		}
		stubs = append(stubs, stub(&events[i]))
	}
	t.metrics.refused.WithLabelValues("too-large").Add(float64(len(stubs)))
	if t.logged.First(stubs[0].DeviceID + " too-large") {
		t.deps.Log.Warn("an event is too large for Kafka, its values are lost; logged once per device", "device", stubs[0].DeviceID, "seq", stubs[0].Seq)
	}
	for i, err := range t.produce(ctx, stubs, source) {
		return fmt.Errorf("event %d without its values: %w", i, err)
	}
	return nil
}
