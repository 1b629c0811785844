package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Bounds of a sender.
const (
	// DefaultTimeout bounds one Send of HTTPS.
	DefaultTimeout = 30 * time.Second
	// ServiceBusTimeout bounds one Send of ServiceBus. EdgeCore itself gives up after
	// serviceBus.timeout, 60 s by default, and its answer says why.
	ServiceBusTimeout = 65 * time.Second
	// MaxRetryAfter bounds what a server may ask for, so that a wrong clock or header
	// does not silence a node.
	MaxRetryAfter = 5 * time.Minute

	// maxAnswer bounds an answer: an Ack, quoted as JSON, in ServiceBus's answer.
	maxAnswer = 4 * MaxAck
)

// SendError is why a batch has no Ack. The batch may be sent again.
type SendError struct {
	Code       Code          // "" for a way to the cloud that does not work
	RetryAfter time.Duration // the server asked to wait this long; at most MaxRetryAfter
	Err        error
}

// Error implements error.
func (e *SendError) Error() string { return "send batch: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *SendError) Unwrap() error { return e.Err }

// CodeOf returns the Code of the SendError in err.
func CodeOf(err error) Code {
	var s *SendError
	if errors.As(err, &s) {
		return s.Code
	}
	return ""
}

// RetryAfter returns how long the server in err asked to wait; zero if it did not.
func RetryAfter(err error) time.Duration {
	var s *SendError
	if errors.As(err, &s) {
		return s.RetryAfter
	}
	return 0
}

// ServiceBus sends batches through EdgeCore's ServiceBus and the Rule that
// leads from TargetURL to the telemetry service. It is safe for concurrent use.
type ServiceBus struct {
	URL       string // of EdgeCore: "http://127.0.0.1:9060"
	TargetURL string // the Rule's sourceResource.target_url
	Token     string // for the telemetry service; may be empty
	Client    *http.Client
}

// NewServiceBus returns a sender with a client of its own.
func NewServiceBus(url, targetURL, token string) *ServiceBus {
	return &ServiceBus{URL: url, TargetURL: targetURL, Token: token, Client: newClient(nil, ServiceBusTimeout)}
}

// Close closes the idle connections.
func (s *ServiceBus) Close() { s.Client.CloseIdleConnections() }

// Send delivers an encoded batch and returns the cloud's Ack. It blocks for
// ServiceBusTimeout at most. An error is a *SendError. Whether a
// batch without an Ack has arrived is unknown: ServiceBus may deliver it later.
func (s *ServiceBus) Send(ctx context.Context, encoded []byte) (Ack, error) {
	body := EncodeServiceBusRequest(s.TargetURL, s.Token, encoded)
	answer, err := post(ctx, s.Client, s.URL, "application/json", "", body)
	if err != nil {
		return Ack{}, &SendError{Err: fmt.Errorf("ServiceBus: %w", err)}
	}
	var r serviceBusResponse
	if err := json.Unmarshal(answer.body, &r); err != nil {
		return Ack{}, &SendError{Err: fmt.Errorf("ServiceBus at %s answered %s, %.80q: is it EdgeCore's?", s.URL, answer.status, answer.body)}
	}
	if r.Code != http.StatusOK {
		return Ack{}, &SendError{Err: fmt.Errorf("ServiceBus: code %d: %.200s", r.Code, r.Msg)}
	}
	plain, err := unwrap([]byte(r.Body))
	if err != nil {
		return Ack{}, &SendError{Err: fmt.Errorf("ServiceBus: the Rule's target answered %.80q, no acknowledgement: %w", r.Body, err)}
	}
	ack, err := DecodeAck(plain)
	if err != nil {
		return Ack{}, &SendError{Err: fmt.Errorf("ServiceBus: the Rule's target: %w", err)}
	}
	return settle(ack, 0)
}

// HTTPS sends batches to the telemetry service. It is safe for concurrent use.
type HTTPS struct {
	URL    string // "https://host/api/v1/batches"
	Token  string // bearer token; may be empty
	Client *http.Client
}

// NewHTTPS returns a sender with a client of its own, which trusts the
// certificates in the PEM file caFile, or the system's when it is empty.
func NewHTTPS(url, token, caFile string) (*HTTPS, error) {
	var pool *x509.CertPool
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file %s: it holds no PEM certificate", caFile)
		}
	}
	return &HTTPS{URL: url, Token: token, Client: newClient(pool, DefaultTimeout)}, nil
}

// Close closes the idle connections.
func (h *HTTPS) Close() { h.Client.CloseIdleConnections() }

// Send delivers an encoded batch and returns the cloud's Ack. It blocks for
// DefaultTimeout at most. An error is a *SendError; whether a batch without an
// Ack has arrived is unknown. A status of 400 or 422 without an Ack in its body
// comes from something between here and the service: it is an error, never poison.
func (h *HTTPS) Send(ctx context.Context, encoded []byte) (Ack, error) {
	answer, err := post(ctx, h.Client, h.URL, ContentType, h.Token, encoded)
	if err != nil {
		return Ack{}, &SendError{Err: err}
	}
	ack, ackErr := DecodeAck(answer.body)
	if ackErr != nil {
		ack = Ack{}
	}
	refused := fmt.Errorf("%s answered %s: %.200s", h.URL, answer.status, reasonOf(ack, answer.body))
	wait := retryAfter(answer.header)
	switch code := answer.code; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return Ack{}, &SendError{Code: CodeUnauthorised, RetryAfter: wait, Err: refused}
	case code == http.StatusRequestEntityTooLarge:
		return Ack{}, &SendError{Code: CodeTooLarge, Err: refused}
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return Ack{}, &SendError{Code: CodeBusy, RetryAfter: wait, Err: refused}
	case ackErr != nil:
		return Ack{}, &SendError{Err: refused}
	case code == http.StatusOK, code == http.StatusBadRequest, code == http.StatusUnprocessableEntity:
		return settle(ack, wait)
	}
	return Ack{}, &SendError{Err: refused}
}

// settle turns an Ack with a Code into the error that a status would have been.
func settle(ack Ack, wait time.Duration) (Ack, error) {
	switch ack.Code {
	case CodeUnauthorised, CodeTooLarge, CodeBusy:
		return Ack{}, &SendError{Code: ack.Code, RetryAfter: wait, Err: errors.New(ack.Error)}
	}
	return ack, nil
}

func reasonOf(ack Ack, body []byte) string {
	if ack.Error != "" {
		return ack.Error
	}
	return strconv.Quote(string(body[:min(len(body), 120)]))
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(strings.TrimSpace(h.Get("Retry-After")), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, MaxRetryAfter)
}

func newClient(roots *x509.CertPool, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns:        1, // one batch is in flight
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		// The token goes to the configured address only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is an HTTP response, read to its end.
type answer struct {
	code   int
	status string
	header http.Header
	body   []byte
}

// post sends body and reads the answer, which is bounded.
func post(ctx context.Context, client *http.Client, url, contentType, token string, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if len(text) > maxAnswer {
		return answer{}, fmt.Errorf("the answer of %s is beyond %d bytes", url, maxAnswer)
	}
	return answer{resp.StatusCode, resp.Status, resp.Header, text}, nil
}
