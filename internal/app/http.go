package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/twinline/twinline/internal/service"
)

// Bounds of every HTTP server of Twinline.
const (
	MaxConnections    = 512
	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 5 * time.Second
)

// API is the HTTP interface of a binary: the routes of its parts, /health and /ready.
// Routes and checks are added before it is served.
type API struct {
	mux    *http.ServeMux
	mu     sync.Mutex
	checks map[string]func() error
}

// NewAPI returns an API that answers /health and /ready.
func NewAPI() *API {
	a := &API{mux: http.NewServeMux(), checks: map[string]func() error{}}
	a.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { writeStatus(w, nil) })
	a.mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { writeStatus(w, a.failing()) })
	return a
}

// Handle adds a route, in http.ServeMux's pattern language.
func (a *API) Handle(pattern string, h http.Handler) { a.mux.Handle(pattern, h) }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Ready adds a readiness check: an error says, for people, why the part cannot
// do its work now. Checks are called by every GET /ready and must not block.
func (a *API) Ready(name string, check func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks[name] = check
}

// failing returns the failing checks by name.
func (a *API) failing() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	failing := map[string]string{}
	for name, check := range a.checks {
		if err := check(); err != nil {
			failing[name] = err.Error()
		}
	}
	return failing
}

func writeStatus(w http.ResponseWriter, failing map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	status := map[string]any{"status": "ok"}
	if len(failing) > 0 {
		status = map[string]any{"status": "not ready", "failing": failing}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(status)
}

// servers returns the service that answers Common.Listen and Common.Metrics.
func (rt *Runtime) servers(c *Common) service.Service {
	return service.New("http", func(ctx context.Context, ready func()) error {
		group, ctx := errgroup.WithContext(ctx)
		metrics := http.NewServeMux()
		metrics.Handle("GET /metrics", promhttp.HandlerFor(rt.Registry, promhttp.HandlerOpts{}))
		var listeners []net.Listener
		closeAll := func() {
			for _, l := range listeners {
				_ = l.Close()
			}
		}
		for _, s := range []struct {
			address, cert, key string
			handler            http.Handler
		}{{c.Listen, c.TLSCert, c.TLSKey, rt.API}, {c.Metrics, "", "", metrics}} {
			if s.address == "" {
				continue
			}
			l, err := Listen(s.address, s.cert, s.key)
			if err != nil {
				closeAll()
				return err
			}
			listeners = append(listeners, l)
			group.Go(func() error { return Serve(ctx, l, s.handler) })
		}
		ready()
		<-ctx.Done()
		return group.Wait()
	})
}

// Listen opens a TCP listener that holds at most MaxConnections, with TLS if cert is given.
func Listen(address, cert, key string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	l = limitListener(l, MaxConnections)
	if cert == "" && key == "" {
		return l, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("load --tls-cert and --tls-key: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
}

// Serve answers requests on l until ctx ends, then lets those under way finish
// for up to 5 s. Handlers that stream must end when the request's context does;
// it is cancelled when the stop begins.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           h,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer stop()
	cancelSoon := time.AfterFunc(shutdownTimeout/2, cancel) // streams end now at the latest
	defer cancelSoon.Stop()
	if err := srv.Shutdown(drain); err != nil {
		_ = srv.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// limited is a listener that holds back further connections beyond a number.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limitListener(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
