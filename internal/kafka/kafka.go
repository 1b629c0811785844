// Package kafka is Twinline's way to Kafka: a Producer whose acknowledgement
// means that the records are on the brokers' logs, and a Consumer whose offsets are
// kept by whoever stores the records. It wraps github.com/twmb/franz-go.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Topics of Twinline in the cloud.
const (
	TelemetryTopic  = "iot-telemetry"
	DeadLetterTopic = "iot-dead-letter"
)

// Cluster says where the brokers are and how to speak to them.
type Cluster struct {
	Brokers  []string    // host:port; one is enough to find the others
	ClientID string      // shown in the brokers' logs and metrics
	TLS      *tls.Config // nil: plain TCP
	User     string      // SASL user; empty: no SASL
	Password string
	SASL     string // "plain", "scram-sha-256" or "scram-sha-512"; needed with User
}

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is what a topic carries. What is in it is shared with Kafka's client
// until it is acknowledged, and must not be changed before.
type Record struct {
	Key     []byte
	Value   []byte
	Headers []Header

	Offset int64     // of a consumed record
	Time   time.Time // of a consumed record: when it was produced
}

// Errors of this package.
var (
	// ErrAway means that the brokers cannot be reached, or do not serve the topic, now.
	ErrAway = errors.New("kafka is away")
	// ErrBusy means that as many records as allowed wait for their acknowledgement already.
	ErrBusy = errors.New("too many records wait for kafka")
)

// TooLarge reports whether a record was refused for its size, which trying again does not change.
func TooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// options returns what producers and consumers have in common.
func (c *Cluster) options() ([]kgo.Opt, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("kafka: no broker is given")
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.DialTimeout(dialTimeout),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.MetadataMaxAge(metadataMaxAge),
		kgo.DisableClientMetrics(),
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	if c.User == "" {
		return opts, nil
	}
	mechanism, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	return append(opts, kgo.SASL(mechanism)), nil
}

func (c *Cluster) mechanism() (sasl.Mechanism, error) {
	switch c.SASL {
	case "plain":
		return plain.Auth{User: c.User, Pass: c.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: c.User, Pass: c.Password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafka: SASL mechanism %q: want plain, scram-sha-256 or scram-sha-512", c.SASL)
}

// Bounds of every client.
const (
	dialTimeout    = 3 * time.Second
	requestTimeout = 10 * time.Second // above what the request itself allows the broker
	metadataMinAge = 250 * time.Millisecond
	metadataMaxAge = time.Minute
	pingInterval   = time.Second
	pingTimeout    = 3 * time.Second // so a lost cluster is known after 4 s, without any traffic
)

// health is what the last look at the cluster found.
type health struct {
	mu  sync.Mutex
	err error
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// watch looks at the topics every second until ctx ends.
func (h *health) watch(ctx context.Context, cl *kgo.Client, topics []string) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		err := ping(ctx, cl, topics)
		if ctx.Err() != nil {
			return
		}
		h.set(err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ping asks any broker for the topics; it returns ErrAway, wrapped with the
// reason, unless each has a leader for each of its partitions.
func ping(ctx context.Context, cl *kgo.Client, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	req.Topics = []kmsg.MetadataRequestTopic{} // none, not all
	for _, name := range topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	for i := range resp.Topics {
		if err := leaders(&resp.Topics[i]); err != nil {
			return fmt.Errorf("%w: topic %s: %w", ErrAway, topics[i], err)
		}
	}
	return nil
}

func leaders(topic *kmsg.MetadataResponseTopic) error {
	if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
		return err
	}
	for i := range topic.Partitions {
		p := &topic.Partitions[i]
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil && p.Leader < 0 {
			return fmt.Errorf("partition %d: %w", p.Partition, err)
		}
	}
	return nil
}
