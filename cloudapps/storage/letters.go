package storage

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/twinline/twinline/internal/kafka"
)

// Headers that a dead letter has besides those of the record.
const (
	HeaderError     = "twinline_error"
	HeaderTopic     = "twinline_topic"
	HeaderPartition = "twinline_partition"
	HeaderOffset    = "twinline_offset"
	HeaderTime      = "twinline_time" // when the record was produced
	HeaderCut       = "twinline_cut"  // the value's size, where it did not fit into the topic
)

// Bounds of a dead letter.
const (
	maxLetterError   = 2 << 10
	maxLetterValue   = kafka.MaxRecordSize - 64<<10
	maxLetterKey     = 16 << 10
	maxLetterHeaders = 16 << 10
)

// bury produces the letters and returns when Kafka has them; it tries again
// until ctx ends. Only then may the offsets move on. After a crash in between a letter comes twice.
func (s sink) bury(ctx context.Context, letters []letter) error {
	if len(letters) == 0 {
		return nil
	}
	records := make([]kafka.Record, len(letters))
	for i := range letters {
		records[i] = s.dead(&letters[i])
	}
	left := records
	err := s.retry(ctx, "write dead letters", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, letterTimeout)
		defer cancel()
		err := s.deps.Letters.Produce(ctx, s.letterTopic, left)
		var partly *kafka.ProduceError
		if errors.As(err, &partly) {
			var failed []kafka.Record
			for _, i := range partly.Failed {
				failed = append(failed, left[i])
			}
			left = failed
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := range letters {
		s.metrics.letters.WithLabelValues(letters[i].reason).Inc()
	}
	return nil
}

// dead is the record with what is wrong with it. It is as it was, unless it is too large for the topic.
func (s sink) dead(l *letter) kafka.Record {
	text := l.err.Error()
	out := kafka.Record{Key: l.record.Key, Value: l.record.Value}
	size := 0
	for _, h := range l.record.Headers {
		if size += len(h.Key) + len(h.Value); size <= maxLetterHeaders {
			out.Headers = append(out.Headers, h)
		}
	}
	add := func(key, value string) {
		out.Headers = append(out.Headers, kafka.Header{Key: key, Value: []byte(value)})
	}
	add(HeaderError, text[:min(len(text), maxLetterError)])
	add(HeaderTopic, s.topic)
	add(HeaderPartition, strconv.Itoa(int(l.partition)))
	add(HeaderOffset, strconv.FormatInt(l.record.Offset, 10))
	add(HeaderTime, l.record.Time.UTC().Format(time.RFC3339Nano))
	if len(out.Key) > maxLetterKey {
		out.Key = out.Key[:maxLetterKey]
	}
	if n := len(out.Value); n > maxLetterValue {
		out.Value = out.Value[:maxLetterValue]
		add(HeaderCut, strconv.Itoa(n))
	}
	return out
}
