package demo

import (
	"context"

	"github.com/twinline/twinline/cloudapps/devicemgmt"
	"github.com/twinline/twinline/internal/kafka"
)

// twinsTopic is the compacted topic of twins.
const twinsTopic = "iot-twins"

// twins writes the records of device management to Kafka.
type twins struct{ producer *kafka.Producer }

// Publish implements devicemgmt.Publisher.
func (t twins) Publish(ctx context.Context, records []devicemgmt.Record) error {
	out := make([]kafka.Record, len(records))
	for i, r := range records {
		out[i] = kafka.Record{Key: []byte(r.Key), Value: r.Value}
	}
	return t.producer.Produce(ctx, twinsTopic, out)
}
