package storage

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/kafka"
)

// Config configures the storage service.
type Config struct {
	app.Common
	kafka.Flags
	kafka.TopicFlags
	Database   string        `key:"database" help:"where telemetry is kept: postgres://… (TimescaleDB or PostgreSQL 14 and newer) or sqlite:FILE"`
	Topic      string        `key:"topic" help:"topic with telemetry events"`
	DeadLetter string        `key:"dead-letter-topic" help:"topic for events that cannot be stored"`
	Group      string        `key:"group" help:"consumer group: its members share the partitions"`
	Instance   string        `key:"instance" help:"name of this member, for static membership: a restart takes its partitions back at once"`
	Records    int           `key:"batch-records" help:"records that one transaction stores at most"`
	Linger     time.Duration `key:"batch-linger" help:"how long a broker gathers records for a batch that is small"`
	Session    time.Duration `key:"session-timeout" help:"after how long a member that died is replaced"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Common:     app.DefaultCommon(),
		Flags:      kafka.DefaultFlags(),
		TopicFlags: kafka.DefaultTopicFlags(),
		Topic:      kafka.TelemetryTopic,
		DeadLetter: kafka.DeadLetterTopic,
		Group:      "storage-service",
		Records:    kafka.DefaultMaxRecords,
		Linger:     kafka.DefaultLinger,
		Session:    kafka.DefaultSessionTimeout,
	}
}

// Bounds of the configuration.
const (
	maxBatchRecords = 50_000
	minLinger       = 10 * time.Millisecond
	maxLinger       = 10 * time.Second
	minSession      = time.Second
	maxSession      = 5 * time.Minute
)

// Validate says what is wrong, and what would be right.
func (c *Config) Validate() error {
	switch {
	case len(c.Kafka) == 0:
		return fmt.Errorf("kafka is not set: give the brokers as HOST:PORT,…")
	case c.Database == "":
		return fmt.Errorf("database is not set: give postgres://… or sqlite:FILE")
	case c.Topic == "" || c.DeadLetter == "" || c.Group == "":
		return fmt.Errorf("topic, dead-letter-topic and group must not be empty")
	case c.Topic == c.DeadLetter:
		return fmt.Errorf("dead-letter-topic is the topic itself: %q", c.Topic)
	case c.Records < 1 || c.Records > maxBatchRecords:
		return fmt.Errorf("batch-records: %d, want 1 to %d", c.Records, maxBatchRecords)
	case c.Linger < minLinger || c.Linger > maxLinger:
		return fmt.Errorf("batch-linger: %s, want %s to %s", c.Linger, minLinger, maxLinger)
	case c.Session < minSession || c.Session > maxSession:
		return fmt.Errorf("session-timeout: %s, want %s to %s", c.Session, minSession, maxSession)
	}
	return nil
}

// Connect returns the producer of dead letters and the consumer that cfg asks
// for; the errors are the configuration's fault. The producer is to be started before the service.
func Connect(cfg Config, cluster kafka.Cluster, log *slog.Logger) (*kafka.Producer, *kafka.Consumer, error) {
	topics, err := cfg.Topics(cfg.Topic, cfg.DeadLetter)
	if err != nil {
		return nil, nil, err
	}
	letters, err := kafka.NewProducer(kafka.ProducerConfig{Cluster: cluster, Topics: topics, Create: cfg.CreateTopics}, log)
	if err != nil {
		return nil, nil, err
	}
	source, err := kafka.NewConsumer(kafka.ConsumerConfig{
		Cluster: cluster, Topic: cfg.Topic, Group: cfg.Group, Instance: cfg.Instance,
		MaxRecords: cfg.Records, Linger: cfg.Linger, SessionTimeout: cfg.Session,
	}, log)
	if err != nil {
		return nil, nil, err
	}
	return letters, source, nil
}
