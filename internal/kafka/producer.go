package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/twinline/twinline/internal/service"
)

// Bounds of a Producer.
const (
	// MaxBufferedRecords and MaxBufferedBytes bound what waits for acknowledgement.
	MaxBufferedRecords = 100_000
	MaxBufferedBytes   = 64 << 20

	// MaxRecordSize bounds a record, and what one request carries of one
	// partition. It is the brokers' default (message.max.bytes), less the batch's own header.
	MaxRecordSize = 1_000_000

	// deliveryTimeout is after how long a record that was never sent is given up.
	deliveryTimeout = 20 * time.Second
	createRetry     = 2 * time.Second
	flushTimeout    = 3 * time.Second
)

// Topic is a topic that a Producer creates where it is missing.
type Topic struct {
	Name        string
	Partitions  int32
	Replication int16 // -1: the brokers' default
	Config      map[string]string
}

// ProducerConfig configures a Producer.
type ProducerConfig struct {
	Cluster
	Topics []Topic // what it produces to: Ready looks at them
	Create bool    // create those that are missing
}

// Producer sends records with acks=all and idempotence. It is a service: while
// it does not run, or the brokers are away, Produce fails at once. Start does not wait for the
// brokers; Stop gives records under way 3 s, then they fail.
type Producer struct {
	*service.Runner
	cfg    ProducerConfig
	opts   []kgo.Opt
	log    *slog.Logger
	health health

	mu sync.RWMutex
	cl *kgo.Client // nil while it does not run
}

// NewProducer returns a Producer; an error is the configuration's fault.
func NewProducer(cfg ProducerConfig, log *slog.Logger) (*Producer, error) {
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	p := &Producer{cfg: cfg, log: log, opts: append(opts,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(MaxRecordSize),
		kgo.MaxBufferedRecords(MaxBufferedRecords),
		kgo.MaxBufferedBytes(MaxBufferedBytes),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.ProduceRequestTimeout(requestTimeout),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.SnappyCompression(), kgo.NoCompression()),
	)}
	if err := kgo.ValidateOpts(p.opts...); err != nil {
		return nil, fmt.Errorf("kafka producer: %w", err)
	}
	p.health.set(fmt.Errorf("%w: not looked yet", ErrAway))
	p.Runner = service.New("kafka producer", p.run)
	return p, nil
}

// Ready returns nil if the brokers answered within the last 4 s and every
// topic has leaders, else the reason. It does not block.
func (p *Producer) Ready() error { return p.health.get() }

func (p *Producer) run(ctx context.Context, ready func()) error {
	cl, err := kgo.NewClient(p.opts...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	p.swap(cl)
	defer func() {
		p.swap(nil)
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = cl.Flush(flush) // what is left fails when the client closes
		cl.Close()
		p.health.set(fmt.Errorf("%w: stopped", ErrAway))
	}()
	ready()
	if p.cfg.Create {
		p.createTopics(ctx, cl)
	}
	names := make([]string, len(p.cfg.Topics))
	for i, t := range p.cfg.Topics {
		names[i] = t.Name
	}
	p.health.watch(ctx, cl, names)
	return nil
}

func (p *Producer) swap(cl *kgo.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cl = cl
}

func (p *Producer) client() *kgo.Client {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.cl
}

// createTopics creates what is missing, and tries again until it succeeds or ctx ends.
func (p *Producer) createTopics(ctx context.Context, cl *kgo.Client) {
	for {
		err := create(ctx, kadm.NewClient(cl), p.cfg.Topics)
		if err == nil || ctx.Err() != nil {
			return
		}
		p.health.set(fmt.Errorf("%w: %w", ErrAway, err))
		p.log.Warn("cannot create topics", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(createRetry):
		}
	}
}

func create(ctx context.Context, adm *kadm.Client, topics []Topic) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, t := range topics {
		config := make(map[string]*string, len(t.Config))
		for k, v := range t.Config {
			config[k] = &v
		}
		resp, err := adm.CreateTopic(ctx, t.Partitions, t.Replication, config, t.Name)
		if err == nil {
			err = resp.Err
		}
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", t.Name, err)
		}
	}
	return nil
}

// ProduceError says which of the records are not known to be in Kafka. They may
// be there all the same, if it was the answer that was lost.
type ProduceError struct {
	Failed []int   // indexes, ascending
	Errs   []error // for each of Failed
}

// Error implements error.
func (e *ProduceError) Error() string {
	return fmt.Sprintf("%d records were not acknowledged, first: %v", len(e.Failed), e.Errs[0])
}

// Unwrap gives the causes.
func (e *ProduceError) Unwrap() []error { return e.Errs }

// Produce sends records to topic and returns when all of them are acknowledged
// by all in-sync replicas, or have failed, or ctx has ended: then with a
// *ProduceError. Records of one key keep their order, also between calls that
// follow each other. With the brokers away it fails with ErrAway without
// waiting; with the buffers full with ErrBusy.
func (p *Producer) Produce(ctx context.Context, topic string, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	if err := p.Ready(); err != nil {
		return failAll(len(records), err)
	}
	cl := p.client()
	if cl == nil {
		return failAll(len(records), ErrAway)
	}
	o := newOutcome(len(records))
	for i := range records {
		r := &kgo.Record{Topic: topic, Key: records[i].Key, Value: records[i].Value}
		for _, h := range records[i].Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		cl.TryProduce(ctx, r, func(_ *kgo.Record, err error) { o.set(i, err) })
	}
	err := o.wait(ctx)
	if errors.Is(err, kerr.UnknownTopicID) {
		cl.PurgeTopicsFromProducing(topic) // it was made anew; the client goes on with the new one only so
	}
	return err
}

func failAll(n int, err error) error {
	e := &ProduceError{Failed: make([]int, n), Errs: make([]error, n)}
	for i := range n {
		e.Failed[i], e.Errs[i] = i, err
	}
	return e
}

// outcome gathers the acknowledgements of one call.
type outcome struct {
	mu      sync.Mutex
	left    int
	pending []bool
	failed  map[int]error
	done    chan struct{}
}

func newOutcome(n int) *outcome {
	o := &outcome{left: n, pending: make([]bool, n), done: make(chan struct{})}
	for i := range o.pending {
		o.pending[i] = true
	}
	return o
}

func (o *outcome) set(i int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending[i] = false
	if err != nil {
		if o.failed == nil {
			o.failed = map[int]error{}
		}
		o.failed[i] = classify(err)
	}
	if o.left--; o.left == 0 {
		close(o.done)
	}
}

func classify(err error) error {
	if errors.Is(err, kgo.ErrMaxBuffered) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

func (o *outcome) wait(ctx context.Context) error {
	select {
	case <-o.done:
	case <-ctx.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	e := &ProduceError{}
	for i, pending := range o.pending {
		err, failed := o.failed[i]
		if pending {
			err, failed = context.Cause(ctx), true
		}
		if failed {
			e.Failed = append(e.Failed, i)
			e.Errs = append(e.Errs, err)
		}
	}
	if len(e.Failed) == 0 {
		return nil
	}
	return e
}

// TooLarge returns the indexes of the records that were refused for their size.
func (e *ProduceError) TooLarge() []int {
	var found []int
	for i, err := range e.Errs {
		if TooLarge(err) {
			found = append(found, e.Failed[i])
		}
	}
	return slices.Clip(found)
}
