// Package broker is an MQTT broker inside the process, for the demo and for
// tests. It lets everyone in and keeps nothing over a restart; production uses Mosquitto. It
// wraps mochi-mqtt.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"

	"github.com/twinline/twinline/internal/service"
)

// Broker is the broker, as a service: Start listens, Stop closes the port and
// every connection. A restart has no sessions, subscriptions and retained messages.
type Broker struct {
	*service.Runner

	mu       sync.Mutex
	address  string
	listener *listener // nil while stopped
}

// New returns a broker for address; "127.0.0.1:0" picks a free port at the
// first Start and keeps it.
func New(address string) *Broker {
	b := &Broker{address: address}
	b.Runner = service.New("broker", b.run)
	return b
}

// URL is the broker's address for a client, once it has been started.
func (b *Broker) URL() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return "tcp://" + b.address
}

// Cut breaks every connection; the broker goes on, and so do persistent sessions.
func (b *Broker) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener != nil {
		b.listener.cut()
	}
}

func (b *Broker) run(ctx context.Context, ready func()) error {
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return fmt.Errorf("allow clients: %w", err)
	}
	l, err := listen(b.address)
	if err != nil {
		return err
	}
	if err := errors.Join(server.AddListener(l), server.Serve()); err != nil {
		l.Close(nil)
		return err
	}
	b.set(l.Address(), l)
	ready()
	<-ctx.Done()
	b.set(l.Address(), nil)
	return server.Close()
}

func (b *Broker) set(address string, l *listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.address, b.listener = address, l
}
