// Package telemetry is where telemetry enters the cloud: batches from uplinks,
// by HTTPS or through KubeEdge's ServiceBus, and events from anyone. It answers that something
// is accepted only when Kafka has it. See DESIGN.md.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service"
)

// Producer sends records; kafka.Producer is one.
type Producer interface {
	// Produce returns nil when all records are acknowledged by all in-sync
	// replicas, else a *kafka.ProduceError.
	Produce(ctx context.Context, topic string, records []kafka.Record) error
	// Ready says why nothing can be produced now. It does not block.
	Ready() error
}

// Authenticator decides who may send. It is called by many requests at a time.
type Authenticator interface {
	// Allow reports whether the bearer of token may send; token may be empty. An
	// error means that it cannot be known now.
	Allow(ctx context.Context, token string) (bool, error)
}

// Deps are what the service works with.
type Deps struct {
	Producer Producer
	Auth     Authenticator // nil: as Config says
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Bounds of the service. A request under way holds its body, up to 7 MB, what
// it decodes to, up to 32 MiB, and one chunk of records.
const (
	maxChunkBytes   = 2 << 20 // of event JSON that wait for Kafka, of one request
	maxChunkRecords = 4096
	produceTimeout  = 20 * time.Second // uplink gives up after 30 s
	bodyTimeout     = 20 * time.Second
	slotWait        = 500 * time.Millisecond
	retryAfter      = "2" // seconds
)

// Telemetry is the service. Its routes are served by whoever serves the API.
type Telemetry struct {
	*service.Runner
	cfg     Config
	deps    Deps
	auth    Authenticator
	tokens  *tokenFile // nil without
	codec   *forward.Codec
	slots   chan struct{}
	metrics *metrics
	logged  app.Subjects
}

// New returns the service and adds its routes and its readiness to api. The
// error is the configuration's fault. The Producer is the caller's to start.
func New(cfg Config, deps Deps, api *app.API) (*Telemetry, error) {
	t := &Telemetry{
		cfg: cfg, deps: deps, auth: deps.Auth,
		codec:   forward.NewCodec(cfg.Concurrent),
		slots:   make(chan struct{}, cfg.Concurrent),
		metrics: newMetrics(deps.Registry),
	}
	if t.auth == nil {
		if err := t.authenticator(); err != nil {
			return nil, err
		}
	}
	t.Runner = service.New("telemetry", t.run)
	api.Handle("POST /api/v1/batches", http.HandlerFunc(t.serveBatch))
	api.Handle("POST /api/v1/events", http.HandlerFunc(t.serveEvents))
	if cfg.ServiceBus != "" {
		api.Handle("POST "+cfg.ServiceBus, http.HandlerFunc(t.serveServiceBus))
	}
	api.Ready("kafka", deps.Producer.Ready)
	return t, nil
}

func (t *Telemetry) authenticator() error {
	if t.cfg.AllowAnonymous {
		t.auth = anyone{}
		return nil
	}
	tokens, err := openTokens(t.cfg.Tokens)
	t.tokens, t.auth = tokens, tokens
	return err
}

// run reads the tokens again when their file changes.
func (t *Telemetry) run(ctx context.Context, ready func()) error {
	ready()
	if t.tokens != nil {
		t.tokens.follow(ctx, t.deps.Log)
	}
	<-ctx.Done()
	return nil
}

// refusal is an error with what to say and to count.
type refusal struct {
	status int
	reason string       // for the metric
	code   forward.Code // for an uplink
	retry  bool
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func busy(reason string, err error) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reason, code: forward.CodeBusy, retry: true, err: err}
}

func malformed(err error) *refusal {
	return &refusal{status: http.StatusBadRequest, reason: "malformed", err: err}
}

// enter takes a slot; the caller releases it. It refuses when Kafka is away,
// or when there is no slot soon: senders wait at their side, where there is a disk.
func (t *Telemetry) enter(w http.ResponseWriter, r *http.Request) (release func(), refused *refusal) {
	if err := t.deps.Producer.Ready(); err != nil {
		return nil, busy("kafka", err)
	}
	wait := time.NewTimer(slotWait)
	defer wait.Stop()
	select {
	case t.slots <- struct{}{}:
	case <-wait.C:
		return nil, busy("concurrency", fmt.Errorf("%d requests are worked on already", t.cfg.Concurrent))
	case <-r.Context().Done():
		return nil, busy("gone", r.Context().Err())
	}
	// A sender that is slow must not hold its slot for long. Recorders in tests have no deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	return func() { <-t.slots }, nil
}

// allow refuses a token that may not send.
func (t *Telemetry) allow(ctx context.Context, token string) *refusal {
	ok, err := t.auth.Allow(ctx, token)
	switch {
	case err != nil:
		return busy("authentication", fmt.Errorf("authenticate: %w", err))
	case !ok:
		return &refusal{
			status: http.StatusUnauthorized, reason: "unauthorised", code: forward.CodeUnauthorised, retry: true,
			err: errors.New("the bearer token is missing or not known"),
		}
	}
	return nil
}

// refuse counts a refusal, and logs it once for each source and reason.
func (t *Telemetry) refuse(r *http.Request, refused *refusal) {
	t.metrics.refused.WithLabelValues(refused.reason).Inc()
	host := hostOf(r)
	if t.logged.First(host + " " + refused.reason) {
		t.deps.Log.Warn("a request is refused; logged once per source and reason", "source", host, "path", r.URL.Path,
			"reason", refused.reason, "error", refused.err)
	}
}

// hostOf is who sends, without the port.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
