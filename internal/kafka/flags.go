package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Flags are the keys by which every binary is told of its Kafka. Embed it in
// a Config beside app.Common.
type Flags struct {
	Kafka             []string `key:"kafka" help:"brokers, HOST:PORT,…; one is enough to find the others"`
	KafkaTLS          bool     `key:"kafka-tls" help:"speak TLS to the brokers"`
	KafkaCA           string   `key:"kafka-ca" help:"file with the CA certificates to trust for the brokers instead of the system's"`
	KafkaUser         string   `key:"kafka-user" help:"SASL user; empty: no SASL"`
	KafkaPasswordFile string   `key:"kafka-password-file" help:"file with the password of --kafka-user"`
	KafkaSASL         string   `key:"kafka-sasl" help:"plain, scram-sha-256 or scram-sha-512"`
}

// DefaultFlags returns the defaults.
func DefaultFlags() Flags { return Flags{KafkaSASL: "scram-sha-512"} }

// Cluster returns what the flags say.
func (f *Flags) Cluster(clientID string) (Cluster, error) {
	if len(f.Kafka) == 0 {
		return Cluster{}, errors.New("kafka is not set: give the brokers as HOST:PORT,…")
	}
	c := Cluster{Brokers: f.Kafka, ClientID: clientID, User: f.KafkaUser, SASL: f.KafkaSASL}
	if f.KafkaTLS || f.KafkaCA != "" {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if f.KafkaCA != "" {
		pem, err := os.ReadFile(f.KafkaCA)
		if err != nil {
			return Cluster{}, fmt.Errorf("kafka-ca: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return Cluster{}, fmt.Errorf("kafka-ca: %s holds no certificate", f.KafkaCA)
		}
	}
	if f.KafkaPasswordFile != "" {
		password, err := os.ReadFile(f.KafkaPasswordFile)
		if err != nil {
			return Cluster{}, fmt.Errorf("kafka-password-file: %w", err)
		}
		c.Password = strings.TrimRight(string(password), "\r\n")
	}
	_, err := c.options()
	return c, err
}

// TopicFlags are the keys of binaries that produce.
type TopicFlags struct {
	CreateTopics bool `key:"create-topics" help:"create the topics that are missing"`
	Partitions   int  `key:"topic-partitions" help:"partitions of topics that --create-topics creates"`
	Replication  int  `key:"topic-replication" help:"replicas of topics that --create-topics creates; -1: the brokers' default"`
}

// DefaultTopicFlags returns the defaults.
func DefaultTopicFlags() TopicFlags { return TopicFlags{Partitions: 12, Replication: -1} }

// Topics returns the named topics as the flags want them.
func (f *TopicFlags) Topics(names ...string) ([]Topic, error) {
	const most = 10_000
	if f.Partitions < 1 || f.Partitions > most {
		return nil, fmt.Errorf("topic-partitions: %d, want 1 to %d", f.Partitions, most)
	}
	if f.Replication != -1 && (f.Replication < 1 || f.Replication > most) {
		return nil, fmt.Errorf("topic-replication: %d, want -1, or 1 to %d", f.Replication, most)
	}
	topics := make([]Topic, len(names))
	for i, name := range names {
		topics[i] = Topic{Name: name, Partitions: int32(f.Partitions), Replication: int16(f.Replication)}
	}
	return topics, nil
}
