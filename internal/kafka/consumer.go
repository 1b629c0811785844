package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of a Consumer.
const (
	// DefaultMaxRecords is how many records one batch has at most.
	DefaultMaxRecords = 5000
	// MaxFetchBytes bounds what is fetched ahead from one broker, as it is on the wire.
	MaxFetchBytes = 16 << 20
	// maxPartitionBytes bounds what one fetch takes of one partition.
	maxPartitionBytes = 4 << 20
	// maxBatchDecompressed bounds one producer's batch when decompressed: what
	// is larger is no batch of a producer with the default bounds.
	maxBatchDecompressed = 64 << 20

	// DefaultLinger is how long a broker gathers minFetchBytes before it answers,
	// so that a slow stream does not become a transaction per record.
	DefaultLinger = 200 * time.Millisecond
	minFetchBytes = 128 << 10

	// DefaultSessionTimeout is after how long a member that died is replaced.
	DefaultSessionTimeout = 10 * time.Second

	// Grace is how long a batch under way may go on when its partitions are to be
	// given up, or the Consumer is to stop.
	Grace = 3 * time.Second

	leaveTimeout = 2 * time.Second
	failurePause = time.Second // after a batch failed, or fetching did
)

// Range is a piece of one partition, as it was consumed.
type Range struct {
	Partition int32
	From      int64    // the offset that Sink.Offsets gave, or where the last batch ended
	Next      int64    // where the next batch of this partition starts
	High      int64    // the partition's end when this was fetched
	Records   []Record // by offset; the first may lie beyond From, and before Next some may be missing
}

// Sink keeps what a Consumer consumes, together with how far it has come.
type Sink interface {
	// Offsets returns for each of the partitions the offset to start from. It is called
	// whenever partitions are assigned, also when they were ours before. It should go on
	// trying until ctx ends. An offset that the topic no longer has becomes its
	// first one: records may be missing, or come again after a topic was made anew.
	Offsets(ctx context.Context, partitions []int32) (map[int32]int64, error)

	// Store takes one batch, of one or more partitions. nil: the batch is done. An
	// error: all partitions are given up, and taken again from what Offsets
	// then says. ctx ends Grace after the partitions are to be given up or the Consumer
	// is to stop; Store must return soon then. No partition is given up during Store.
	Store(ctx context.Context, ranges []Range) error
}

// ConsumerConfig configures a Consumer.
type ConsumerConfig struct {
	Cluster
	Topic    string
	Group    string
	Instance string // static membership: a restart under the same name takes its partitions at once

	MaxRecords     int           // default DefaultMaxRecords
	Linger         time.Duration // default DefaultLinger; 10 ms at least
	SessionTimeout time.Duration // default DefaultSessionTimeout
}

// Consumer shares a topic's partitions with the other members of its group,
// and takes the offsets from a Sink instead of Kafka. The group's offsets in Kafka
// follow behind, for the tools that show lag; nothing reads them.
type Consumer struct {
	cfg    ConsumerConfig
	opts   []kgo.Opt
	log    *slog.Logger
	health health
	said   string // the last error of fetching that was logged

	mu    sync.Mutex
	sink  Sink
	next  map[int32]int64 // where each partition goes on; without those to be dropped
	hurry func()          // bounds the batch under way
	owed  bool            // hurryUp was called when there was none yet
}

// NewConsumer returns a Consumer; an error is the configuration's fault.
func NewConsumer(cfg ConsumerConfig, log *slog.Logger) (*Consumer, error) {
	if cfg.Topic == "" || cfg.Group == "" {
		return nil, errors.New("kafka consumer: topic and group are both needed")
	}
	c := &Consumer{cfg: cfg, log: log, next: map[int32]int64{}}
	c.health.set(fmt.Errorf("%w: not looked yet", ErrAway))
	setDefault(&c.cfg.MaxRecords, DefaultMaxRecords)
	setDefault(&c.cfg.Linger, DefaultLinger)
	setDefault(&c.cfg.SessionTimeout, DefaultSessionTimeout)
	opts, err := c.cfg.options()
	if err != nil {
		return nil, err
	}
	c.opts = append(opts, c.groupOptions()...)
	if err := kgo.ValidateOpts(c.opts...); err != nil {
		return nil, fmt.Errorf("kafka consumer: %w", err)
	}
	return c, nil
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

func (c *Consumer) groupOptions() []kgo.Opt {
	dropped := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { c.drop(lost[c.cfg.Topic]) }
	opts := []kgo.Opt{
		kgo.ConsumeTopics(c.cfg.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(MaxFetchBytes),
		kgo.FetchMaxPartitionBytes(maxPartitionBytes),
		kgo.MaxDecompressBatchBytes(maxBatchDecompressed),
		kgo.FetchMinBytes(minFetchBytes),
		kgo.FetchMaxWait(c.cfg.Linger),
		kgo.ConsumerGroup(c.cfg.Group),
		// Sticky, but not cooperative: each rebalance gives up all partitions,
		// so that all offsets are read again.
		kgo.Balancers(kgo.StickyBalancer()),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(c.cfg.SessionTimeout / 5),
		// A rebalance waits this long for members that died: no longer than one needs to let go.
		kgo.RebalanceTimeout(max(c.cfg.SessionTimeout, 2*Grace)),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsCallbackBlocked(func(context.Context, *kgo.Client) { c.hurryUp() }),
		kgo.OnPartitionsRevoked(dropped),
		kgo.OnPartitionsLost(dropped),
		kgo.AdjustFetchOffsetsFn(c.assign),
		kgo.AutoCommitMarks(),
	}
	if c.cfg.Instance != "" {
		opts = append(opts, kgo.InstanceID(c.cfg.Instance))
	}
	return opts
}

// Ready returns nil if the brokers answered within the last 4 s and the topic
// has leaders, else the reason. It does not block.
func (c *Consumer) Ready() error { return c.health.get() }

// Run consumes until ctx ends, and then returns nil; it calls sink.Store with
// one batch at a time. An error is the configuration's fault. Stopping takes Grace and
// 2 s at most. A Consumer runs once at a time.
func (c *Consumer) Run(ctx context.Context, sink Sink) error {
	c.mu.Lock()
	c.sink = sink // before there is a client, which joins the group at once
	c.mu.Unlock()
	for ctx.Err() == nil {
		if err := c.member(ctx, sink); err != nil {
			return err
		}
	}
	return nil
}

// member consumes as one member of the group until ctx ends or the topic is made
// anew: a client never goes on with another topic of the same name.
func (c *Consumer) member(ctx context.Context, sink Sink) error {
	cl, err := kgo.NewClient(c.opts...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	watching := make(chan struct{})
	watchCtx, stopWatch := context.WithCancel(ctx)
	go func() {
		defer close(watching)
		c.health.watch(watchCtx, cl, []string{c.cfg.Topic})
	}()
	defer func() {
		stopWatch()
		<-watching
		c.health.set(fmt.Errorf("%w: stopped", ErrAway))
		c.drop(nil)
		cl.AllowRebalance()
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		_ = cl.LeaveGroupContext(leave) // the session's timeout does it otherwise
		cl.Close()
	}()
	for ctx.Err() == nil {
		if anew := c.round(ctx, cl, sink); anew {
			break
		}
	}
	return nil
}

// round polls once and has what came stored. It reports whether the topic was made anew.
func (c *Consumer) round(ctx context.Context, cl *kgo.Client, sink Sink) (anew bool) {
	defer cl.AllowRebalance()
	fetches := cl.PollRecords(ctx, c.cfg.MaxRecords)
	failed := false
	fetches.EachError(func(_ string, partition int32, err error) {
		if text := err.Error(); ctx.Err() == nil && text != c.said { // of the loop only
			c.said = text
			c.log.Warn("cannot fetch; logged once until it says something else", "topic", c.cfg.Topic, "partition", partition, "error", err)
		}
		failed = true
		anew = anew || errors.Is(err, kerr.UnknownTopicID)
	})
	if failed { // once for all partitions: a rebalance waits meanwhile
		pause(ctx, failurePause)
	}
	ranges := c.take(fetches)
	if len(ranges) == 0 {
		return anew
	}
	c.said = ""
	err := c.bounded(ctx, func(ctx context.Context) error { return sink.Store(ctx, ranges) })
	if err == nil {
		c.done(cl, ranges)
		return anew
	}
	c.drop(nil) // also what is fetched ahead
	if ctx.Err() != nil {
		return false
	}
	c.log.Info("partitions are given up and taken again", "topic", c.cfg.Topic, "reason", err)
	cl.ForceRebalance()
	cl.AllowRebalance()
	pause(ctx, failurePause)
	return anew
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// bounded calls f with a context that ends Grace after ctx does, or after hurryUp was called.
func (c *Consumer) bounded(ctx context.Context, f func(context.Context) error) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var once sync.Once
	var timer *time.Timer
	hurry := func() {
		once.Do(func() { timer = time.AfterFunc(Grace, cancel) })
	}
	stop := context.AfterFunc(ctx, hurry)
	c.mu.Lock()
	c.hurry = hurry
	if c.owed {
		hurry()
	}
	c.owed = false
	c.mu.Unlock()
	defer func() {
		stop()
		c.mu.Lock()
		c.hurry = nil
		c.mu.Unlock()
		once.Do(func() {}) // no timer any more; and the timer is visible here
		if timer != nil {
			timer.Stop()
		}
	}()
	return f(work)
}

func (c *Consumer) hurryUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hurry == nil {
		c.owed = true // at worst the next batch has less time than it could have
		return
	}
	c.hurry()
}

// assign replaces the offsets that Kafka has by those of the sink.
func (c *Consumer) assign(ctx context.Context, fetched map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	var partitions []int32
	for p := range fetched[c.cfg.Topic] {
		partitions = append(partitions, p)
	}
	if len(partitions) == 0 {
		return fetched, nil
	}
	c.mu.Lock()
	sink := c.sink
	c.mu.Unlock()
	offsets, err := sink.Offsets(ctx, partitions)
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", c.cfg.Topic, err)
	}
	adjusted := make(map[int32]kgo.Offset, len(partitions))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range partitions {
		at, ok := offsets[p]
		if !ok {
			return nil, fmt.Errorf("offsets of %s: partition %d has none", c.cfg.Topic, p)
		}
		adjusted[p] = kgo.NewOffset().At(at)
	}
	for p, at := range offsets {
		c.next[p] = at
	}
	c.log.Info("partitions assigned", "topic", c.cfg.Topic, "offsets", offsets)
	return map[string]map[int32]kgo.Offset{c.cfg.Topic: adjusted}, nil
}

// drop forgets where the partitions go on, so that what is still fetched of
// them is left out; nil means all.
func (c *Consumer) drop(partitions []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if partitions == nil {
		clear(c.next)
	}
	for _, p := range partitions {
		delete(c.next, p)
	}
}

// take makes ranges of what was fetched of partitions that are ours.
func (c *Consumer) take(fetches kgo.Fetches) []Range {
	c.mu.Lock()
	defer c.mu.Unlock()
	byPartition := map[int32]int{}
	var ranges []Range
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		from, ours := c.next[f.Partition]
		if !ours || len(f.Records) == 0 {
			return
		}
		i, seen := byPartition[f.Partition]
		if !seen {
			i = len(ranges)
			byPartition[f.Partition] = i
			ranges = append(ranges, Range{Partition: f.Partition, From: from})
		}
		r := &ranges[i]
		for _, rec := range f.Records {
			r.Records = append(r.Records, fromKafka(rec))
		}
		r.Next = f.Records[len(f.Records)-1].Offset + 1
		r.High = f.HighWatermark
	})
	return ranges
}

func fromKafka(rec *kgo.Record) Record {
	r := Record{Key: rec.Key, Value: rec.Value, Offset: rec.Offset, Time: rec.Timestamp}
	for _, h := range rec.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return r
}

// done moves on behind the ranges.
func (c *Consumer) done(cl *kgo.Client, ranges []Range) {
	marks := make(map[int32]kgo.EpochOffset, len(ranges))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range ranges {
		c.next[r.Partition] = r.Next
		marks[r.Partition] = kgo.EpochOffset{Epoch: -1, Offset: r.Next}
	}
	cl.MarkCommitOffsets(map[string]map[int32]kgo.EpochOffset{c.cfg.Topic: marks})
}
