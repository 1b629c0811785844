package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Bounds of one connection.
const (
	connectTimeout = 10 * time.Second // TCP, TLS and CONNACK together
	writeTimeout   = 5 * time.Second  // a broker on the same machine that does not read for so long is stuck
	ackTimeout     = 10 * time.Second // SUBACK and UNSUBACK
	confirmTimeout = 20 * time.Second // PUBACK; longer than a full queue of a persistent session may hold back what the broker says
	keepAlive      = 15 * time.Second // a dead peer is noticed after keepAlive + pingTimeout
	pingTimeout    = 5 * time.Second
	disconnectTime = 250 * time.Millisecond // for the DISCONNECT packet to go out
	subscribeBatch = 64                     // filters per SUBSCRIBE packet
	subackFailure  = 0x80                   // MQTT 3.1.1 section 3.9.3
)

// errLost ends whatever waits for a connection that is gone.
var errLost = errors.New("connection to the broker lost")

// conn is one connection. A new paho client is made for each: paho's own
// reconnecting keeps state across connections that nobody can see into.
type conn struct {
	paho mqtt.Client
	lost chan struct{} // closed by fail
	once sync.Once
	why  error          // valid once lost is closed
	wg   sync.WaitGroup // what must end with the connection

	cleared chan struct{} // closed when the Client has let go of it
}

// fail marks the connection as of no further use.
func (n *conn) fail(why error) {
	n.once.Do(func() {
		n.why = why
		close(n.lost)
	})
}

// dial makes one connection; receive gets every message that comes over it.
func dial(ctx context.Context, cfg Config, id string, receive func(*conn, mqtt.Message)) (*conn, error) {
	n := &conn{lost: make(chan struct{}), cleared: make(chan struct{})}
	unwatch := func() bool { return true }
	o := mqtt.NewClientOptions()
	o.AddBroker("tcp://broker") // paho wants one; the next option does the dialling
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		c, err := cfg.open(ctx)
		if err != nil {
			return nil, err
		}
		unwatch = context.AfterFunc(ctx, func() { _ = c.Close() })
		return c, nil
	})
	name, password := cfg.credentials()
	o.SetClientID(id).SetUsername(name).SetPassword(password)
	o.SetProtocolVersion(4) // 3.1.1, without a second attempt as 3.1
	o.SetCleanSession(!cfg.Persistent).SetAutoAckDisabled(cfg.Persistent)
	o.SetAutoReconnect(false).SetConnectRetry(false)
	o.SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout)
	o.SetKeepAlive(keepAlive).SetPingTimeout(pingTimeout)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { receive(n, m) })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { n.fail(err) })
	n.paho = mqtt.NewClient(o)
	token := n.paho.Connect()
	token.Wait() // bounded by connectTimeout and ctx
	unwatch()
	if err := token.Error(); err != nil {
		return nil, err
	}
	return n, nil
}

// close ends the connection and waits for what belongs to it.
func (n *conn) close() {
	n.fail(errLost)
	n.paho.Disconnect(uint(disconnectTime.Milliseconds()))
	n.wg.Wait()
}

// publish sends one message and waits for its PUBACK. release is called once
// the message is out of flight, which may be after publish has returned.
func (n *conn) publish(ctx context.Context, topic string, retained bool, payload []byte, release func()) error {
	token := n.paho.Publish(topic, 1, retained, payload)
	late := time.NewTimer(confirmTimeout)
	defer late.Stop()
	select {
	case <-token.Done():
		release()
		if err := token.Error(); err != nil {
			n.fail(err)
			return err
		}
		return nil
	case <-n.lost:
		release()
		return errLost
	case <-late.C: // the connection lives, but the broker has forgotten the message
		release()
		n.fail(fmt.Errorf("a message was not confirmed within %s", confirmTimeout))
		return errLost
	case <-ctx.Done():
		n.wg.Go(func() {
			select {
			case <-token.Done():
			case <-n.lost:
			}
			release()
		})
		return ctx.Err()
	}
}

// subscribe makes subscriptions and returns those that the broker refuses.
func (n *conn) subscribe(ctx context.Context, filters []string) (refused []string, err error) {
	for len(filters) > 0 {
		some := filters[:min(len(filters), subscribeBatch)]
		filters = filters[len(some):]
		want := make(map[string]byte, len(some))
		for _, f := range some {
			want[f] = 1
		}
		token := n.paho.SubscribeMultiple(want, nil)
		if err := n.await(ctx, token); err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
		for f, code := range token.(*mqtt.SubscribeToken).Result() {
			if code == subackFailure {
				refused = append(refused, f)
			}
		}
	}
	return refused, nil
}

// unsubscribe ends subscriptions.
func (n *conn) unsubscribe(ctx context.Context, filters []string) error {
	for len(filters) > 0 {
		some := filters[:min(len(filters), subscribeBatch)]
		filters = filters[len(some):]
		if err := n.await(ctx, n.paho.Unsubscribe(some...)); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
	}
	return nil
}

// await waits for the broker's answer. A connection on which it does not come is given up.
func (n *conn) await(ctx context.Context, token mqtt.Token) error {
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-token.Done():
		err = token.Error()
	case <-timer.C:
		err = fmt.Errorf("no answer within %s", ackTimeout)
	case <-n.lost:
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil {
		n.fail(err)
	}
	return err
}
