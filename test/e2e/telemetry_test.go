package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// testTelemetry follows samples from the bus through ServiceBus, the telemetry
// service, Kafka and storage into the database.
func (p *plant) testTelemetry(t *testing.T) {
	on(t, kubeEdge, kafkaBroker, database, broker)
	p.concerns(t, "uplink", "telemetry", "storage")
	ctx := t.Context()
	var acked map[key]sample
	eventually(t, 60*time.Second, "uplink acknowledges every device", func() error {
		var published int
		acked, published = p.recorder.acknowledged()
		devices := map[string]bool{}
		for k := range acked {
			devices[k.device] = true
		}
		if want := len(p.constants()); len(devices) < want {
			return fmt.Errorf("%d of %d samples, of %d devices; want %d", len(acked), published, len(devices), want)
		}
		return nil
	})
	eventually(t, 60*time.Second, "the database has them", func() error {
		got, err := storedSamples(ctx, p.database, p.Namespace)
		if err != nil {
			return err
		}
		// More are acknowledged meanwhile.
		maps.DeleteFunc(got, func(k key, _ *stored) bool { _, ok := acked[k]; return !ok })
		c := compare(acked, got)
		t.Log(c)
		return c.err()
	})
	record, err := p.consume(ctx, telemetryTopic, func(r *kgo.Record) bool { return string(r.Key) == p.id("furnace-1") })
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		DeviceID  string `json:"device_id"`
		Timestamp time.Time
		Data      map[string]json.RawMessage
		Epoch     uint64
		Seq       uint64
	}
	if err := json.Unmarshal(record.Value, &event); err != nil || event.DeviceID != p.id("furnace-1") || event.Timestamp.IsZero() ||
		len(event.Data) == 0 || event.Epoch == 0 || event.Seq == 0 {
		t.Errorf("event %s, %v", record.Value, err)
	}
}

// consume reads a topic from its start until a record matches.
func (p *plant) consume(ctx context.Context, topic string, match func(*kgo.Record) bool) (*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.stack.Kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	seen := 0
	for {
		fetches := client.PollFetches(ctx)
		for _, record := range fetches.Records() {
			if seen++; match(record) {
				return record, nil
			}
		}
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			return nil, fmt.Errorf("none of %d records of %s is the one: %w", seen, topic, err)
		}
	}
}

// query returns the one number that a query gives.
func (p *plant) query(ctx context.Context, sql string, args ...any) (int, error) {
	conn, err := pgx.Connect(ctx, p.database)
	if err != nil {
		return 0, fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var n int
	err = conn.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

// haveRows returns nil when a device has so many rows without a sequence number, as events of others have none.
func (p *plant) haveRows(ctx context.Context, device string, want int) error {
	n, err := p.query(ctx, "SELECT count(*) FROM telemetry WHERE device_id = $1 AND seq IS NULL", device)
	if err == nil && n != want {
		err = fmt.Errorf("%s has %d rows, want %d", device, n, want)
	}
	return err
}
