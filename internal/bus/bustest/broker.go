// Package bustest holds brokers for tests: Broker speaks MQTT on a port of
// 127.0.0.1 and can be stopped and restarted; Memory is a bus without a network, for
// tests in a synctest bubble.
package bustest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/broker"
	"github.com/twinline/twinline/internal/service"
)

// Broker is an MQTT broker in this process. It lets everyone in and keeps
// nothing over a restart.
type Broker struct{ inner *broker.Broker }

// NewBroker returns a broker that listens on address; "127.0.0.1:0" picks a free port.
func NewBroker(address string) (*Broker, error) {
	b := &Broker{inner: broker.New(address)}
	return b, b.Start()
}

// Start returns a running broker that stops with the test.
func Start(t testing.TB) *Broker {
	t.Helper()
	b, err := NewBroker("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(b.Stop)
	return b
}

// URL is the broker's address for a client, the same over restarts.
func (b *Broker) URL() string { return b.inner.URL() }

// Start brings a stopped broker back on the same port, without its sessions,
// subscriptions and retained messages. A running one is left alone.
func (b *Broker) Start() error {
	err := b.inner.Start(context.Background())
	if errors.Is(err, service.ErrRunning) {
		return nil
	}
	return err
}

// Stop closes the port and every connection. It may be called twice.
func (b *Broker) Stop() { b.inner.Stop() }

// Restart is Stop and Start.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Stop()
	require.NoError(t, b.Start())
}

// Cut breaks every connection; the broker goes on, and so do persistent sessions.
func (b *Broker) Cut() { b.inner.Cut() }
