package kafka

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded is a broker in this process, for the demo and for tests: it keeps
// its records in a folder through kill -9 and a restart. It is not for production.
type Embedded struct{ cluster *kfake.Cluster }

// StartEmbedded starts a broker on address, "127.0.0.1:0" for a free port, that
// keeps its data in dir; without dir in memory. topics are created with that many
// partitions, where they are missing. The caller closes it.
func StartEmbedded(dir, address string, partitions int32, topics ...string) (*Embedded, error) {
	listen := func(network, _ string) (net.Listener, error) {
		return new(net.ListenConfig).Listen(context.Background(), network, address)
	}
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.ListenFn(listen), kfake.SeedTopics(partitions, topics...), kfake.GroupMinSessionTimeout(time.Second)}
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
