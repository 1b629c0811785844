package kafka

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded is a broker in this process, for the demo and for tests: it keeps
// its records in a folder through kill -9 and a restart. It is not for production.
type Embedded struct{ cluster *kfake.Cluster }

// StartEmbedded starts a broker on 127.0.0.1 that keeps its data in dir; without
// dir in memory. port 0 takes a free one. topics are created with that many
// partitions, where they are missing. The caller closes it.
func StartEmbedded(dir string, port int, partitions int32, topics ...string) (*Embedded, error) {
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...), kfake.GroupMinSessionTimeout(time.Second)}
	if port != 0 {
		opts = append(opts, kfake.Ports(port))
	}
	if dir != "" {
		opts = append(opts, kfake.DataDir(dir), kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start embedded kafka: %w", err)
	}
	return &Embedded{cluster}, nil
}

// Addrs returns the broker's addresses.
func (e *Embedded) Addrs() []string { return e.cluster.ListenAddrs() }

// Close stops the broker and writes what is left to disk.
func (e *Embedded) Close() { e.cluster.Close() }
