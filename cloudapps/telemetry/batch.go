package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/history"
	"github.com/twinline/twinline/pkg/twin"
)

// serveBatch answers POST /api/v1/batches: an encoded forward.Batch in, a forward.Ack out.
func (t *Telemetry) serveBatch(w http.ResponseWriter, r *http.Request) {
	ack, refused := t.takeBatch(w, r)
	w.Header().Set("Content-Type", "application/json")
	if refused == nil {
		_, _ = w.Write(forward.EncodeAck(ack))
		return
	}
	t.refuse(r, refused)
	setRefused(w, refused)
	_, _ = w.Write(forward.EncodeAck(refuseAck(ack, refused)))
}

// setRefused writes the head of an answer that refuses.
func setRefused(w http.ResponseWriter, refused *refusal) {
	switch refused.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="twinline"`)
	}
	w.WriteHeader(refused.status)
}

// refuseAck says in an Ack, which may be empty, what was refused.
func refuseAck(ack forward.Ack, refused *refusal) forward.Ack {
	ack.Error, ack.Retry, ack.Code = refused.Error(), refused.retry, refused.code
	return ack
}

func (t *Telemetry) takeBatch(w http.ResponseWriter, r *http.Request) (forward.Ack, *refusal) {
	if refused := t.allow(r.Context(), bearer(r)); refused != nil {
		return forward.Ack{}, refused
	}
	release, refused := t.enter(w, r)
	if refused != nil {
		return forward.Ack{}, refused
	}
	defer release()
	body, refused := readBody(w, r, forward.MaxEncoded)
	if refused != nil {
		return forward.Ack{}, refused
	}
	return t.store(r.Context(), body, "https")
}

// serveServiceBus answers what CloudCore's router delivers. KubeEdge carries no
// status and keeps the connection of an answer open for ever: so it is always 200, and
// the connection is closed.
func (t *Telemetry) serveServiceBus(w http.ResponseWriter, r *http.Request) {
	ack, refused := t.takeServiceBus(w, r)
	if refused != nil {
		t.refuse(r, refused)
		ack = refuseAck(ack, refused)
	}
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(forward.EncodeAck(ack))
}

func (t *Telemetry) takeServiceBus(w http.ResponseWriter, r *http.Request) (forward.Ack, *refusal) {
	release, refused := t.enter(w, r)
	if refused != nil {
		return forward.Ack{}, refused
	}
	defer release()
	body, refused := readBody(w, r, forward.MaxServiceBusRequest)
	if refused != nil {
		return forward.Ack{}, refused
	}
	token, encoded, err := forward.DecodeServiceBusRequest(body)
	if err != nil {
		return forward.Ack{}, malformed(err)
	}
	if refused := t.allow(r.Context(), token); refused != nil {
		return forward.Ack{}, refused
	}
	return t.store(r.Context(), encoded, "servicebus")
}

// readBody reads the whole body.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *refusal) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooMuch *http.MaxBytesError
	switch {
	case errors.As(err, &tooMuch):
		return nil, tooLarge(limit)
	case err != nil:
		return nil, &refusal{status: http.StatusRequestTimeout, reason: "unread", retry: true, err: fmt.Errorf("read body: %w", err)}
	}
	return body, nil
}

func tooLarge(limit int64) *refusal {
	return &refusal{
		status: http.StatusRequestEntityTooLarge, reason: "too-large", code: forward.CodeTooLarge,
		err: errors.New("the body has more than " + strconv.FormatInt(limit, 10) + " bytes"),
	}
}

// store decodes a batch and puts it into Kafka, all of it or, as far as the
// sender may know, nothing: what arrives twice is stored once.
func (t *Telemetry) store(ctx context.Context, encoded []byte, transport string) (forward.Ack, *refusal) {
	batch, err := t.codec.Decode(encoded)
	if err != nil {
		return forward.Ack{}, malformed(err)
	}
	ack := forward.Ack{Stream: batch.Stream, Last: batch.First - min(1, batch.First)}
	events := make([]twin.Event, len(batch.Samples))
	for i := range batch.Samples {
		events[i] = twin.EventOf(&batch.Samples[i])
		if err := history.Check(&events[i]); err != nil {
			return ack, malformed(fmt.Errorf("sample %d of %s: %w", i, events[i].DeviceID, err))
		}
	}
	if err := t.produceAll(ctx, events, "/twinline/uplink/"+batch.Stream); err != nil {
		return ack, busy("kafka", err)
	}
	ack.Last = batch.Last
	t.metrics.batches.WithLabelValues(transport).Inc()
	t.metrics.events.WithLabelValues(transport).Add(float64(len(events)))
	return ack, nil
}
