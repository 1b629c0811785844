// Package bustest holds brokers for tests: Broker speaks MQTT on a port of
// 127.0.0.1 and can be stopped and restarted; Memory is a bus without a network, for
// tests in a synctest bubble.
package bustest

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/stretchr/testify/require"
)

// Broker is an MQTT broker in this process. It lets everyone in and keeps
// nothing over a restart.
type Broker struct {
	mu       sync.Mutex
	address  string
	server   *mqtt.Server // nil while stopped
	listener *listener
}

// NewBroker returns a broker that listens on address; "127.0.0.1:0" picks a free port.
func NewBroker(address string) (*Broker, error) {
	b := &Broker{address: address}
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
func (b *Broker) URL() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return "tcp://" + b.address
}

// Start brings a stopped broker back on the same port, without its sessions,
// subscriptions and retained messages. A running one is left alone.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		return nil
	}
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	l, err := listen(b.address)
	if err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	if err := errors.Join(server.AddListener(l), server.Serve()); err != nil {
		l.Close(nil)
		return fmt.Errorf("start broker: %w", err)
	}
	b.address, b.server, b.listener = l.Address(), server, l
	return nil
}

// Stop closes the port and every connection. It may be called twice.
func (b *Broker) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
}

// Restart is Stop and Start.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Stop()
	require.NoError(t, b.Start())
}

// Cut breaks every connection; the broker goes on, and so do persistent sessions.
func (b *Broker) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		b.listener.cut()
	}
}
