package storage_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/pkg/twin"
)

// BenchmarkStoreWithoutADatabase measures what storage itself costs: reading
// events of 20 properties and making batches of them.
func BenchmarkStoreWithoutADatabase(b *testing.B) {
	const events, properties = 1000, 20
	r := kafka.Range{Next: events}
	for i := range int64(events) {
		e := numbered(fmt.Sprintf("plant/device-%d", i%100), 1, uint64(i+1))
		e.Readings = nil
		for j := range properties {
			e.Readings = append(e.Readings, twin.Reading{Property: fmt.Sprintf("property-%02d", j), Value: twin.FloatValue(float64(i) + 0.5)})
		}
		r.Records = append(r.Records, kafka.Record{Offset: i, Value: []byte(text(e))})
	}
	source := &repeated{ranges: []kafka.Range{r}, b: b}
	svc := storage.New(storage.DefaultConfig(), storage.Deps{Source: source, Store: nowhere{}, Letters: &letterBox{}, Log: quiet(), Registry: prometheus.NewRegistry()})
	require.NoError(b, svc.Start(b.Context()))
	<-svc.Done()
	b.ReportMetric(float64(source.rounds*events*properties)/b.Elapsed().Seconds(), "rows/s")
}

// repeated delivers its ranges as often as the benchmark wants.
type repeated struct {
	ranges []kafka.Range
	b      *testing.B
	rounds int
}

func (r *repeated) Ready() error { return nil }

func (r *repeated) Run(ctx context.Context, sink kafka.Sink) error {
	for r.b.Loop() {
		if err := sink.Store(ctx, r.ranges); err != nil {
			return err
		}
		r.rounds++
	}
	return errScriptEnded
}

// nowhere is a Store that keeps nothing.
type nowhere struct{}

func (nowhere) Migrate(context.Context) error { return nil }
func (nowhere) Ping(context.Context) error    { return nil }
func (nowhere) Offsets(context.Context, string, []int32) (map[int32]int64, error) {
	return nil, nil
}

func (nowhere) Commit(_ context.Context, b *history.Batch) (history.Outcome, error) {
	return history.Outcome{Events: b.Events()}, nil
}
