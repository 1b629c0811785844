package telemetry

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/kafka"
)

// Config configures the telemetry service.
type Config struct {
	app.Common
	kafka.Flags
	kafka.TopicFlags
	Topic          string `key:"topic" help:"topic for telemetry events"`
	Tokens         string `key:"tokens" help:"file with the bearer tokens of those who may send, one a line; read again when it changes"`
	AllowAnonymous bool   `key:"allow-anonymous" help:"let anyone send who reaches the port"`
	ServiceBus     string `key:"servicebus-path" help:"path that CloudCore's router posts to; empty: none"`
	Concurrent     int    `key:"concurrent" help:"requests that are worked on at a time; more are asked to come back"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Common:     app.DefaultCommon(),
		Flags:      kafka.DefaultFlags(),
		TopicFlags: kafka.DefaultTopicFlags(),
		Topic:      kafka.TelemetryTopic,
		ServiceBus: "/servicebus",
		Concurrent: 16,
	}
}

// maxConcurrent keeps what all requests hold below 1 GiB; see maxChunkBytes.
const maxConcurrent = 24

// Validate says what is wrong, and what would be right.
func (c *Config) Validate() error {
	switch {
	case len(c.Kafka) == 0:
		return errors.New("kafka is not set: give the brokers as HOST:PORT,…")
	case c.Topic == "":
		return errors.New("topic must not be empty")
	case c.Tokens == "" && !c.AllowAnonymous:
		return errors.New("tokens is not set: give a file with bearer tokens, or say allow-anonymous")
	case c.Tokens != "" && c.AllowAnonymous:
		return errors.New("tokens and allow-anonymous exclude each other")
	case c.ServiceBus != "" && (!strings.HasPrefix(c.ServiceBus, "/") || strings.ContainsAny(c.ServiceBus, " {}") || strings.HasSuffix(c.ServiceBus, "/")):
		return fmt.Errorf("servicebus-path: %q, want a path such as /servicebus", c.ServiceBus)
	case c.Concurrent < 1 || c.Concurrent > maxConcurrent:
		return fmt.Errorf("concurrent: %d, want 1 to %d", c.Concurrent, maxConcurrent)
	}
	return nil
}
