package bus

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultURL is the node's broker where KubeEdge expects it.
const DefaultURL = "tcp://127.0.0.1:1883"

// MaxClientIDLength bounds Config.ClientID, in bytes. The suffix of a session
// that is not persistent comes on top.
const MaxClientIDLength = 128

// Config says which broker a Client uses and as whom.
type Config struct {
	// URL of the broker: tcp:// or mqtt:// (port 1883), tls://, ssl:// or
	// mqtts:// (port 8883), unix:///path. Empty is DefaultURL. It may
	// hold user:password@.
	URL string

	// ClientID is what the broker knows this client by; empty is "twinline".
	// Unless the session is persistent a random suffix is added, so that two processes
	// of one name do not throw each other out.
	ClientID string

	// Username and Password go before those of the URL.
	Username, Password string

	// TLS is used by the TLS schemes; nil is the system's roots.
	TLS *tls.Config

	// Persistent asks the broker to keep the session, its subscriptions and
	// their QoS 1 messages while the client is away. ClientID must then be given, stable
	// and used by one process at a time. A message is acknowledged to the broker
	// after its handlers have returned, so a crash loses none. Subscribe before
	// Start: what comes for no handler is acknowledged and gone.
	//
	// Without it the session is clean: what is published while the client is
	// away does not reach it, and a message is acknowledged when it is queued.
	Persistent bool

	Log      *slog.Logger          // nil: none
	Registry prometheus.Registerer // nil: metrics are not registered
}

// Validate reports what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if _, _, _, err := c.endpoint(); err != nil {
		return err
	}
	if len(c.ClientID) > MaxClientIDLength {
		return fmt.Errorf("bus: client id has %d bytes, at most %d are allowed", len(c.ClientID), MaxClientIDLength)
	}
	if c.Persistent && c.ClientID == "" {
		return errors.New("bus: a persistent session needs a client id")
	}
	return nil
}

// endpoint returns what to dial: the network, the address, and whether by TLS.
func (c Config) endpoint() (network, address string, secure bool, err error) {
	u, err := c.parse()
	if err != nil {
		return "", "", false, err
	}
	port := "1883"
	switch u.Scheme {
	case "unix":
		if u.Path == "" {
			return "", "", false, errors.New("bus: url unix: want unix:///path/of/socket")
		}
		return "unix", u.Path, false, nil
	case "tcp", "mqtt":
	case "tls", "ssl", "mqtts":
		port, secure = "8883", true
	default:
		return "", "", false, fmt.Errorf("bus: url scheme %.20q: want tcp, mqtt, tls, ssl, mqtts or unix", u.Scheme)
	}
	if u.Hostname() == "" || (u.Path != "" && u.Path != "/") {
		return "", "", false, fmt.Errorf("bus: url %q: want %s://host:port", u.Redacted(), u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return "tcp", net.JoinHostPort(u.Hostname(), port), secure, nil
}

func (c Config) parse() (*url.URL, error) {
	text := c.URL
	if text == "" {
		text = DefaultURL
	}
	u, err := url.Parse(text)
	if err != nil { // its text may hold a password
		return nil, errors.New("bus: url cannot be read: want tcp://host:port")
	}
	return u, nil
}

// credentials returns the name and password to log in with.
func (c Config) credentials() (name, password string) {
	if c.Username != "" {
		return c.Username, c.Password
	}
	u, err := c.parse()
	if err != nil || u.User == nil {
		return "", ""
	}
	password, _ = u.User.Password()
	return u.User.Username(), password
}

// clientID returns the id for one run.
func (c Config) clientID() string {
	if c.Persistent {
		return c.ClientID
	}
	id := c.ClientID
	if id == "" {
		id = "twinline"
	}
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails (crypto/rand)
	return id + "-" + hex.EncodeToString(suffix[:])
}

// open dials the broker; it gives up when ctx ends.
func (c Config) open(ctx context.Context) (net.Conn, error) {
	network, address, secure, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	var conn net.Conn
	if secure {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: c.TLS}).DialContext(ctx, network, address)
	} else {
		conn, err = dialer.DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	return &brokerConn{Conn: conn, in: bufio.NewReader(conn)}, nil
}

// redacted is the URL for logs.
func (c Config) redacted() string {
	u, err := c.parse()
	if err != nil {
		return strings.Repeat("*", 3)
	}
	return u.Redacted()
}

// brokerConn gives every Write a deadline: a broker that has stopped reading
// ends the connection and never blocks a caller for ever. Its Reads are buffered,
// since paho reads each packet in three pieces.
type brokerConn struct {
	net.Conn
	in *bufio.Reader
}

// Read implements net.Conn.
func (c *brokerConn) Read(b []byte) (int, error) { return c.in.Read(b) }

// Write implements net.Conn.
func (c *brokerConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
