package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

const topic = "iot-telemetry"

func fake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(2, topic)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func producer(t *testing.T, cfg kafka.ProducerConfig) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(cfg, quiet())
	require.NoError(t, err)
	require.NoError(t, p.Start(t.Context()))
	t.Cleanup(p.Stop)
	return p
}

func toTopic(c *kfake.Cluster) kafka.ProducerConfig {
	return kafka.ProducerConfig{Cluster: kafka.Cluster{Brokers: c.ListenAddrs()}, Topics: []kafka.Topic{{Name: topic, Partitions: 2, Replication: -1}}}
}

// eventually waits for what must come to pass; how long it takes is not asserted.
func eventually(t *testing.T, check func() bool, what string) {
	t.Helper()
	require.Eventually(t, check, 30*time.Second, 5*time.Millisecond, what)
}

func records(from, n int) []kafka.Record {
	rs := make([]kafka.Record, n)
	for i := range rs {
		rs[i] = kafka.Record{
			Key: fmt.Appendf(nil, "k%d", (from+i)%7), Value: fmt.Appendf(nil, "v%d", from+i),
			Headers: []kafka.Header{{Key: "ce_id", Value: []byte("x")}},
		}
	}
	return rs
}

func TestProduceReturnsWhenAllIsAcknowledged(t *testing.T) {
	c := fake(t)
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	require.NoError(t, p.Produce(t.Context(), topic, nil))
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 100)))
	total := int64(0)
	for _, info := range c.PartitionInfos(topic) {
		total += info.HighWatermark
	}
	require.Equal(t, int64(100), total)
}

func TestProduceSaysWhichRecordsFailed(t *testing.T) {
	c := fake(t)
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	rs := records(0, 3)
	rs[1].Value = make([]byte, kafka.MaxRecordSize+1)
	err := p.Produce(t.Context(), topic, rs)
	var failed *kafka.ProduceError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, []int{1}, failed.Failed)
	require.Equal(t, []int{1}, failed.TooLarge())
	require.True(t, kafka.TooLarge(err))
}

func TestProduceEndsWithItsContext(t *testing.T) {
	c := fake(t)
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	asked := make(chan struct{})
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	err := p.Produce(ctx, topic, records(0, 1))
	close(release)
	require.ErrorIs(t, err, context.Canceled)
}

func TestProducerIsNotReadyWithoutItsTopic(t *testing.T) {
	c := fake(t)
	cfg := toTopic(c)
	cfg.Topics[0].Name = "missing"
	p := producer(t, cfg)
	eventually(t, func() bool { return errors.Is(p.Ready(), kerr.UnknownTopicOrPartition) }, "not ready")
	require.ErrorIs(t, p.Ready(), kafka.ErrAway)
	require.ErrorIs(t, p.Produce(t.Context(), "missing", records(0, 1)), kafka.ErrAway)
}

func TestProducerCreatesItsTopics(t *testing.T) {
	c := fake(t)
	cfg := toTopic(c)
	cfg.Topics[0].Name, cfg.Topics[0].Partitions = "made", 5
	cfg.Create = true
	p := producer(t, cfg)
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	require.Len(t, c.PartitionInfos("made"), 5)
	p.Stop()
	require.ErrorIs(t, p.Ready(), kafka.ErrAway)
	require.NoError(t, p.Start(t.Context()), "what is there already is fine")
	eventually(t, func() bool { return p.Ready() == nil }, "ready again")
}

func TestReadinessFollowsTheBrokersWithoutTraffic(t *testing.T) {
	dir := t.TempDir()
	first, err := kafka.StartEmbedded(dir, "127.0.0.1:0", 2, topic)
	require.NoError(t, err)
	addrs := first.Addrs()
	p := producer(t, kafka.ProducerConfig{Cluster: kafka.Cluster{Brokers: addrs}, Topics: []kafka.Topic{{Name: topic}}})
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	first.Close()
	eventually(t, func() bool { return errors.Is(p.Ready(), kafka.ErrAway) }, "not ready")
	require.ErrorIs(t, p.Produce(t.Context(), topic, records(0, 1)), kafka.ErrAway)
	again, err := kafka.StartEmbedded(dir, addrs[0], 2, topic)
	require.NoError(t, err)
	defer again.Close()
	eventually(t, func() bool { return p.Ready() == nil }, "ready again")
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 1)))
}

func TestProducerKeepsTheServiceContract(t *testing.T) {
	p, err := kafka.NewProducer(toTopic(fake(t)), quiet())
	require.NoError(t, err)
	servicetest.Stress(t, p)
}

func TestEmbeddedKeepsItsRecords(t *testing.T) {
	dir := t.TempDir()
	first, err := kafka.StartEmbedded(dir, "127.0.0.1:0", 2, topic)
	require.NoError(t, err)
	cluster := kafka.Cluster{Brokers: first.Addrs()}
	p := producer(t, kafka.ProducerConfig{Cluster: cluster, Topics: []kafka.Topic{{Name: topic}}})
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 50)))
	p.Stop()
	first.Close()

	again, err := kafka.StartEmbedded(dir, "127.0.0.1:0", 2, topic)
	require.NoError(t, err)
	defer again.Close()
	db := newDatabase()
	stop := consume(t, kafka.Cluster{Brokers: again.Addrs()}, db, db.store)
	defer stop()
	eventually(t, func() bool { return db.len() == 50 }, "all records")
}

// database keeps offsets and values as storage's database does: together, and
// only if the offsets are where the batch starts from.
type database struct {
	mu     sync.Mutex
	next   map[int32]int64
	values map[string]int
}

var errFenced = errors.New("fenced")

func newDatabase() *database { return &database{next: map[int32]int64{}, values: map[string]int{}} }

func (d *database) offsets(_ context.Context, partitions []int32) (map[int32]int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	offsets := map[int32]int64{}
	for _, p := range partitions {
		offsets[p] = d.next[p]
	}
	return offsets, nil
}

func (d *database) store(_ context.Context, ranges []kafka.Range) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range ranges {
		if d.next[r.Partition] != r.From {
			return errFenced
		}
	}
	for _, r := range ranges {
		d.next[r.Partition] = r.Next
		for _, rec := range r.Records {
			d.values[string(rec.Value)]++
		}
	}
	return nil
}

func (d *database) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.values)
}

func (d *database) requireOnce(t *testing.T, n int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	require.Len(t, d.values, n)
	for v, times := range d.values {
		require.Equal(t, 1, times, v)
	}
}

type sink struct {
	offsets func(context.Context, []int32) (map[int32]int64, error)
	store   func(context.Context, []kafka.Range) error
}

func (s sink) Offsets(ctx context.Context, partitions []int32) (map[int32]int64, error) {
	return s.offsets(ctx, partitions)
}

func (s sink) Store(ctx context.Context, ranges []kafka.Range) error { return s.store(ctx, ranges) }

func consume(t *testing.T, cluster kafka.Cluster, db *database, handle func(context.Context, []kafka.Range) error) (stop func()) {
	t.Helper()
	c, err := kafka.NewConsumer(kafka.ConsumerConfig{
		Cluster: cluster, Topic: topic, Group: "storage-service",
		Linger: 10 * time.Millisecond, SessionTimeout: time.Second, MaxRecords: 16,
	}, quiet())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, sink{db.offsets, handle}) }()
	return sync.OnceFunc(func() { cancel(); require.NoError(t, <-ended) })
}

func groups() kfake.Opt { return kfake.GroupMinSessionTimeout(100 * time.Millisecond) }

func TestConsumersShareThePartitionsAndStoreEachRecordOnce(t *testing.T) {
	c := fake(t, groups())
	cluster := kafka.Cluster{Brokers: c.ListenAddrs()}
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	db := newDatabase()
	stopA := consume(t, cluster, db, db.store)
	const n = 600
	for from := 0; from < n; from += 20 {
		require.NoError(t, p.Produce(t.Context(), topic, records(from, 20)))
		switch from {
		case 200:
			defer consume(t, cluster, db, db.store)()
		case 400:
			stopA()
		}
	}
	eventually(t, func() bool { return db.len() == n }, "all records")
	db.requireOnce(t, n)
}

func TestAFailedBatchIsTakenAgainFromTheOffsets(t *testing.T) {
	c := fake(t, groups())
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 100)))
	db := newDatabase()
	calls := 0
	stop := consume(t, kafka.Cluster{Brokers: c.ListenAddrs()}, db, func(ctx context.Context, ranges []kafka.Range) error {
		switch calls++; calls {
		case 2:
			return errors.New("nothing stored")
		case 4: // stored, and yet the answer was lost
			require.NoError(t, db.store(ctx, ranges))
			return errFenced
		}
		return db.store(ctx, ranges)
	})
	defer stop()
	eventually(t, func() bool { return db.len() == 100 }, "all records")
	db.requireOnce(t, 100)
}

func TestABatchUnderWayIsGivenUpForARebalance(t *testing.T) {
	c := fake(t, groups())
	cluster := kafka.Cluster{Brokers: c.ListenAddrs()}
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 100)))
	db := newDatabase()
	stuck := make(chan struct{})
	var once sync.Once
	stopA := consume(t, cluster, db, func(ctx context.Context, ranges []kafka.Range) error {
		once.Do(func() { close(stuck) })
		<-ctx.Done() // the database is away
		return ctx.Err()
	})
	<-stuck
	stopB := consume(t, cluster, db, db.store)
	eventually(t, func() bool { return db.len() > 0 }, "the second member got partitions")
	stopA()
	eventually(t, func() bool { return db.len() == 100 }, "all records")
	stopB()
	db.requireOnce(t, 100)
}

func TestConsumerStopsWhileTheDatabaseIsAway(t *testing.T) {
	c := fake(t, groups())
	asked := make(chan struct{})
	var once sync.Once
	consumer, err := kafka.NewConsumer(kafka.ConsumerConfig{Cluster: kafka.Cluster{Brokers: c.ListenAddrs()}, Topic: topic, Group: "g"}, quiet())
	require.NoError(t, err)
	away := sink{offsets: func(ctx context.Context, _ []int32) (map[int32]int64, error) {
		once.Do(func() { close(asked) })
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx, away) }()
	<-asked
	cancel()
	require.NoError(t, <-ended)
}

func TestOffsetsThatTheTopicNoLongerHasBecomeItsFirst(t *testing.T) {
	c := fake(t, groups())
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 100)))
	ends := map[int32]int64{}
	for i, info := range c.PartitionInfos(topic) {
		ends[int32(i)] = info.HighWatermark
	}
	require.NoError(t, c.DeleteRecords(topic, 0, 10)) // by retention
	db := newDatabase()
	db.next[1] = ends[1] + 1000 // of a topic that was made anew
	stop := consume(t, kafka.Cluster{Brokers: c.ListenAddrs()}, db, db.store)
	defer stop()
	eventually(t, func() bool { return db.len() == 90 }, "what there is")
	db.requireOnce(t, 90)
	require.Equal(t, ends, db.next)
}

func TestATopicThatIsMadeAnewIsUsedAgain(t *testing.T) {
	c := fake(t, groups())
	p := producer(t, toTopic(c))
	eventually(t, func() bool { return p.Ready() == nil }, "ready")
	db := newDatabase()
	stop := consume(t, kafka.Cluster{Brokers: c.ListenAddrs()}, db, db.store)
	defer stop()
	require.NoError(t, p.Produce(t.Context(), topic, records(0, 50)))
	eventually(t, func() bool { return db.len() == 50 }, "the first topic's records")
	remake(t, c)
	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return p.Produce(ctx, topic, records(50, 1)) == nil
	}, "the producer goes on")
	eventually(t, func() bool { return db.len() == 51 }, "the consumer goes on")
}

// remake deletes the topic and makes it again.
func remake(t *testing.T, c *kfake.Cluster) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	require.NoError(t, err)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	_, err = adm.DeleteTopic(t.Context(), topic)
	require.NoError(t, err)
	_, err = adm.CreateTopic(t.Context(), 2, 1, nil, topic)
	require.NoError(t, err)
}

func TestConfigurationMistakes(t *testing.T) {
	_, err := kafka.NewProducer(kafka.ProducerConfig{}, quiet())
	require.ErrorContains(t, err, "no broker")
	_, err = kafka.NewProducer(kafka.ProducerConfig{Cluster: kafka.Cluster{Brokers: []string{"x:1"}, User: "u", SASL: "kerberos"}}, quiet())
	require.ErrorContains(t, err, "scram-sha-512")
	_, err = kafka.NewConsumer(kafka.ConsumerConfig{Topic: topic}, quiet())
	require.ErrorContains(t, err, "group")
}
