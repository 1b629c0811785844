package devicemgmt

import (
	"context"

	"github.com/twinline/twinline/internal/kafka"
)

// KafkaPublisher publishes to a topic by a kafka.Producer.
type KafkaPublisher struct {
	Producer interface {
		Produce(ctx context.Context, topic string, records []kafka.Record) error
	}
	Topic string
}

// Publish implements Publisher.
func (p KafkaPublisher) Publish(ctx context.Context, records []Record) error {
	out := make([]kafka.Record, len(records))
	for i, r := range records {
		out[i] = kafka.Record{Key: []byte(r.Key), Value: r.Value}
	}
	return p.Producer.Produce(ctx, p.Topic, out)
}
