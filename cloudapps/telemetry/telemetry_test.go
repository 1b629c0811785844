package telemetry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/cloudapps/telemetry"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// broker is a Producer that keeps what it is given, or fails.
type broker struct {
	mu      sync.Mutex
	records []kafka.Record
	away    error
	fail    func(records []kafka.Record) error
}

func (b *broker) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.away
}

func (b *broker) Produce(_ context.Context, topic string, records []kafka.Record) error {
	if topic != kafka.TelemetryTopic {
		return fmt.Errorf("topic %q", topic)
	}
	if b.fail != nil {
		if err := b.fail(records); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = append(b.records, records...)
	return nil
}

// rig is a telemetry service without a port.
type rig struct {
	broker   *broker
	api      *app.API
	svc      *telemetry.Telemetry
	registry *prometheus.Registry
}

func newRig(t testing.TB, change func(*telemetry.Config)) *rig {
	t.Helper()
	cfg := telemetry.DefaultConfig()
	cfg.Tokens = tokenFile(t, "secret\n")
	if change != nil {
		change(&cfg)
	}
	r := &rig{broker: &broker{}, api: app.NewAPI(), registry: prometheus.NewRegistry()}
	var err error
	r.svc, err = telemetry.New(cfg, telemetry.Deps{Producer: r.broker, Log: quiet(), Registry: r.registry}, r.api)
	require.NoError(t, err)
	return r
}

func tokenFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func (r *rig) post(path, token string, body []byte) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, req)
	return w
}

func (r *rig) ack(t testing.TB, w *httptest.ResponseRecorder) forward.Ack {
	t.Helper()
	ack, err := forward.DecodeAck(w.Body.Bytes())
	require.NoError(t, err)
	return ack
}

func samples(n int) []twin.Sample {
	out := make([]twin.Sample, n)
	for i := range out {
		out[i] = twin.Sample{
			Device: twin.DeviceID{Namespace: "plant", Name: "boiler"}, Epoch: 3, Seq: uint64(i + 1), Time: time.Unix(1_700_000_000+int64(i), 1000).UTC(),
			Readings: []twin.Reading{twin.BadReading("level", "timeout"), {Property: "temperature", Value: twin.FloatValue(20.5)}},
		}
	}
	return out
}

func encode(t testing.TB, b forward.Batch) []byte {
	t.Helper()
	encoded, err := forward.NewCodec(1).Encode(&b)
	require.NoError(t, err)
	return encoded
}

func batch(t testing.TB, n int) []byte {
	return encode(t, forward.Batch{Stream: "node-1/abc", First: 11, Last: 10 + uint64(n), Samples: samples(n)})
}

func TestABatchIsAcknowledgedWhenKafkaHasIt(t *testing.T) {
	r := newRig(t, nil)
	w := r.post("/api/v1/batches", "secret", batch(t, 3))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, forward.Ack{Stream: "node-1/abc", Last: 13}, r.ack(t, w))
	require.Len(t, r.broker.records, 3)
	rec := r.broker.records[1]
	require.Equal(t, "plant/boiler", string(rec.Key))
	require.JSONEq(t, `{"device_id":"plant/boiler","timestamp":"2023-11-14T22:13:21.000001Z","data":{"temperature":20.5},"quality":{"level":"bad:timeout"},"epoch":3,"seq":2}`, string(rec.Value))
	headers := map[string]string{}
	for _, h := range rec.Headers {
		headers[h.Key] = string(h.Value)
	}
	require.Equal(t, map[string]string{
		"ce_specversion": "1.0", "ce_id": "plant/boiler/3/2", "ce_source": "/twinline/uplink/node-1/abc",
		"ce_type": telemetry.EventType, "ce_time": "2023-11-14T22:13:21.000001Z", "content-type": "application/json",
	}, headers)
}

func TestAHeartbeatIsAcknowledgedOnlyWithKafka(t *testing.T) {
	r := newRig(t, nil)
	beat := encode(t, forward.Batch{Stream: "s", First: 7, Last: 7})
	require.Equal(t, forward.Ack{Stream: "s", Last: 7}, r.ack(t, r.post("/api/v1/batches", "secret", beat)))
	r.broker.away = kafka.ErrAway
	w := r.post("/api/v1/batches", "secret", beat)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	ack := r.ack(t, w)
	require.Equal(t, forward.CodeBusy, ack.Code)
	require.True(t, ack.Retry)
}

func TestServiceBusIsAnsweredWith200AndAnAckAlways(t *testing.T) {
	r := newRig(t, nil)
	wrapped := func(token string) []byte {
		request := forward.EncodeServiceBusRequest("/servicebus", token, batch(t, 2))
		quoted, err := json.Marshal(base64.StdEncoding.EncodeToString(request))
		require.NoError(t, err)
		return quoted
	}
	for name, c := range map[string]struct {
		body []byte
		away error
		want forward.Ack
	}{
		"good":    {body: wrapped("secret"), want: forward.Ack{Stream: "node-1/abc", Last: 12}},
		"token":   {body: wrapped("wrong"), want: forward.Ack{Code: forward.CodeUnauthorised, Retry: true}},
		"garbage": {body: []byte("garbage"), want: forward.Ack{}},
		"empty":   {body: nil, want: forward.Ack{}},
		"large":   {body: make([]byte, forward.MaxServiceBusRequest+1), want: forward.Ack{Code: forward.CodeTooLarge}},
		"away":    {body: wrapped("secret"), away: kafka.ErrAway, want: forward.Ack{Code: forward.CodeBusy, Retry: true}},
	} {
		r.broker.away = c.away
		w := r.post("/servicebus", "", c.body)
		require.Equal(t, http.StatusOK, w.Code, name)
		require.Equal(t, "close", w.Header().Get("Connection"), name)
		ack := r.ack(t, w)
		require.Equal(t, c.want.Stream == "", ack.Error != "", name)
		ack.Error = ""
		require.Equal(t, c.want, ack, name)
	}
}

func TestBatchesThatAreRefused(t *testing.T) {
	r := newRig(t, nil)
	good := batch(t, 1)
	late := samples(1)
	late[0].Seq = 1<<63 + 5
	for name, c := range map[string]struct {
		token  string
		body   []byte
		status int
		code   forward.Code
		retry  bool
	}{
		"no token":     {"", good, 401, forward.CodeUnauthorised, true},
		"wrong token":  {"Secret", good, 401, forward.CodeUnauthorised, true},
		"damaged":      {"secret", append([]byte{'x'}, good...), 400, "", false},
		"empty":        {"secret", nil, 400, "", false},
		"too large":    {"secret", make([]byte, forward.MaxEncoded+1), 413, forward.CodeTooLarge, false},
		"beyond int64": {"secret", encode(t, forward.Batch{Stream: "s", First: 1, Last: 1, Samples: late}), 400, "", false},
	} {
		w := r.post("/api/v1/batches", c.token, c.body)
		require.Equal(t, c.status, w.Code, name)
		ack := r.ack(t, w)
		require.Equal(t, c.code, ack.Code, name)
		require.Equal(t, c.retry, ack.Retry, name)
		require.NotEmpty(t, ack.Error, name)
	}
	require.Empty(t, r.broker.records)
}

func TestABatchIsNotAcknowledgedInParts(t *testing.T) {
	r := newRig(t, nil)
	r.broker.fail = func(records []kafka.Record) error {
		return &kafka.ProduceError{Failed: []int{1}, Errs: []error{kerr.NotEnoughReplicas}}
	}
	w := r.post("/api/v1/batches", "secret", batch(t, 3))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	ack := r.ack(t, w)
	require.Equal(t, uint64(10), ack.Last)
	require.True(t, ack.Retry)
}

func TestAHugeBatchGoesInChunksAndStopsAtAFailure(t *testing.T) {
	r := newRig(t, nil)
	sizes := []int{}
	r.broker.fail = func(records []kafka.Record) error { sizes = append(sizes, len(records)); return nil }
	require.Equal(t, http.StatusOK, r.post("/api/v1/batches", "secret", batch(t, 10_000)).Code)
	require.Equal(t, []int{4096, 4096, 1808}, sizes)
	calls := 0
	r.broker.fail = func([]kafka.Record) error { calls++; return kafka.ErrAway }
	require.Equal(t, http.StatusServiceUnavailable, r.post("/api/v1/batches", "secret", batch(t, 10_000)).Code)
	require.Equal(t, 1, calls)
}

func TestASampleTooLargeForKafkaKeepsItsPlace(t *testing.T) {
	r := newRig(t, nil)
	r.broker.fail = func(records []kafka.Record) error {
		for i, rec := range records {
			if bytes.Contains(rec.Value, []byte(`"seq":2`)) && bytes.Contains(rec.Value, []byte("20.5")) {
				return &kafka.ProduceError{Failed: []int{i}, Errs: []error{kerr.MessageTooLarge}}
			}
		}
		return nil
	}
	w := r.post("/api/v1/batches", "secret", batch(t, 3))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, uint64(13), r.ack(t, w).Last)
	last := r.broker.records[len(r.broker.records)-1]
	require.JSONEq(t, `{"device_id":"plant/boiler","timestamp":"2023-11-14T22:13:21.000001Z","data":{},"quality":{"level":"bad:too-large","temperature":"bad:too-large"},"epoch":3,"seq":2}`, string(last.Value))
	var e twin.Event
	require.NoError(t, json.Unmarshal(last.Value, &e), "storage reads it")
}

func answer(t testing.TB, w *httptest.ResponseRecorder) telemetry.EventsAnswer {
	t.Helper()
	var a telemetry.EventsAnswer
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a), w.Body.String())
	return a
}

const plain = `{"device_id":"python-1","timestamp":"2026-01-02T03:04:05.678901","data":{"temperature":21.5,"on":true}}`

func TestEventsInEveryForm(t *testing.T) {
	bad := `{"device_id":"","timestamp":1,"data":{"a":1}}`
	for name, c := range map[string]struct {
		body     string
		status   int
		accepted int
		refused  []int
	}{
		"one":              {plain, 202, 1, nil},
		"one over lines":   {strings.ReplaceAll(plain, ",", ",\n"), 202, 1, nil},
		"array":            {"[" + plain + "," + plain + "]", 202, 2, nil},
		"empty array":      {"[]", 202, 0, nil},
		"lines":            {plain + "\n" + plain + "\r\n\n" + plain + "\n", 202, 3, nil},
		"array, partial":   {"[" + plain + "," + bad + ",17," + plain + "]", 207, 2, []int{1, 2}},
		"lines, partial":   {plain + "\nnonsense\n" + bad + "\n" + plain, 207, 2, []int{1, 2}},
		"all bad":          {bad, 400, 0, []int{0}},
		"epoch too high":   {`{"device_id":"d","timestamp":1,"data":{"a":1},"epoch":1,"seq":18446744073709551615}`, 400, 0, []int{0}},
		"nonsense":         {"nonsense", 400, 0, []int{0}},
		"broken array":     {"[" + plain + ",", 400, 0, nil},
		"more after array": {"[]" + plain, 400, 0, nil},
		"empty":            {" \n ", 400, 0, nil},
		"too many":         {"[" + strings.Repeat("1,", telemetry.MaxEvents) + "1]", 400, 0, nil},
		"too many lines":   {strings.Repeat("1\n", telemetry.MaxEvents+1), 400, 0, nil},
		"too large":        {strings.Repeat(" ", telemetry.MaxEventsBody+1), 413, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			w := r.post("/api/v1/events", "secret", []byte(c.body))
			require.Equal(t, c.status, w.Code, w.Body.String())
			a := answer(t, w)
			require.Equal(t, c.accepted, a.Accepted)
			require.Len(t, r.broker.records, c.accepted)
			var refused []int
			for _, p := range a.Refused {
				refused = append(refused, p.Index)
				require.NotEmpty(t, p.Reason)
				require.False(t, p.Retry)
			}
			require.Equal(t, c.refused, refused)
			require.Equal(t, c.status >= 400 && c.refused == nil, a.Error != "")
		})
	}
}

func TestEventsAtTheBound(t *testing.T) {
	r := newRig(t, nil)
	w := r.post("/api/v1/events", "secret", []byte("["+strings.Repeat(`{"device_id":"d","timestamp":1,"data":{"a":1}},`, telemetry.MaxEvents-1)+plain+"]"))
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Len(t, r.broker.records, telemetry.MaxEvents)
	ids := map[string]bool{}
	for _, rec := range r.broker.records {
		ids[string(rec.Headers[1].Value)] = true
	}
	require.Len(t, ids, telemetry.MaxEvents, "each has an id of its own")
}

func TestEventsSayWhatToSendAgain(t *testing.T) {
	r := newRig(t, nil)
	r.broker.fail = func([]kafka.Record) error {
		return &kafka.ProduceError{Failed: []int{1, 2}, Errs: []error{kerr.NotEnoughReplicas, kerr.MessageTooLarge}}
	}
	w := r.post("/api/v1/events", "secret", []byte(plain+"\n"+plain+"\n"+plain))
	require.Equal(t, http.StatusMultiStatus, w.Code)
	a := answer(t, w)
	require.Equal(t, 1, a.Accepted)
	require.Equal(t, []bool{true, false}, []bool{a.Refused[0].Retry, a.Refused[1].Retry})
	r.broker.fail = func([]kafka.Record) error { return errors.New("gone") }
	w = r.post("/api/v1/events", "secret", []byte(plain))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.True(t, answer(t, w).Refused[0].Retry)
	require.Equal(t, http.StatusUnauthorized, r.post("/api/v1/events", "", []byte(plain)).Code)
}

func TestReadinessIsKafkas(t *testing.T) {
	r := newRig(t, nil)
	ready := func() int {
		w := httptest.NewRecorder()
		r.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
		return w.Code
	}
	require.Equal(t, http.StatusOK, ready())
	r.broker.away = kafka.ErrAway
	require.Equal(t, http.StatusServiceUnavailable, ready())
}

func TestRequestsBeyondTheBoundAreSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *telemetry.Config) { c.Concurrent = 2 })
		release := make(chan struct{})
		r.broker.fail = func([]kafka.Record) error { <-release; return nil }
		codes := make(chan int, 3)
		for range 3 {
			go func() { codes <- r.post("/api/v1/events", "secret", []byte(plain)).Code }()
		}
		require.Equal(t, http.StatusServiceUnavailable, <-codes)
		close(release)
		require.Equal(t, http.StatusAccepted, <-codes)
		require.Equal(t, http.StatusAccepted, <-codes)
	})
}

func TestTokensAreReadAgainWhenTheirFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := tokenFile(t, "old\n")
		r := newRig(t, func(c *telemetry.Config) { c.Tokens = file })
		require.NoError(t, r.svc.Start(t.Context()))
		defer r.svc.Stop()
		status := func(token string) int { return r.post("/api/v1/events", token, []byte(plain)).Code }
		require.Equal(t, http.StatusAccepted, status("old"))
		require.NoError(t, os.WriteFile(file, []byte("brand new\n"), 0o600))
		time.Sleep(6 * time.Second)
		require.Equal(t, http.StatusUnauthorized, status("old"))
		require.Equal(t, http.StatusAccepted, status("brand new"))
		require.NoError(t, os.Remove(file))
		time.Sleep(6 * time.Second)
		require.Equal(t, http.StatusAccepted, status("brand new"), "stays as it was")
		require.NoError(t, os.WriteFile(file, []byte("third\n"), 0o600))
		time.Sleep(6 * time.Second)
		require.Equal(t, http.StatusAccepted, status("third"))
	})
}

func TestAnonymous(t *testing.T) {
	r := newRig(t, func(c *telemetry.Config) { c.Tokens, c.AllowAnonymous = "", true })
	require.Equal(t, http.StatusAccepted, r.post("/api/v1/events", "", []byte(plain)).Code)
}

func TestConfigurationMistakes(t *testing.T) {
	good := telemetry.DefaultConfig()
	good.Kafka, good.AllowAnonymous = []string{"k:9092"}, true
	require.NoError(t, good.Validate())
	for name, spoil := range map[string]func(*telemetry.Config){
		"kafka":           func(c *telemetry.Config) { c.Kafka = nil },
		"topic":           func(c *telemetry.Config) { c.Topic = "" },
		"tokens":          func(c *telemetry.Config) { c.AllowAnonymous = false },
		"exclude":         func(c *telemetry.Config) { c.Tokens = "file" },
		"servicebus-path": func(c *telemetry.Config) { c.ServiceBus = "servicebus" },
		"concurrent":      func(c *telemetry.Config) { c.Concurrent = 0 },
	} {
		c := good
		spoil(&c)
		require.ErrorContains(t, c.Validate(), name)
	}
	cfg := good
	cfg.AllowAnonymous = false
	for name, file := range map[string]string{"no such file": "/nonexistent/tokens", "has none": tokenFile(t, "# nobody\n")} {
		cfg.Tokens = file
		_, err := telemetry.New(cfg, telemetry.Deps{Producer: &broker{}, Log: quiet(), Registry: prometheus.NewRegistry()}, app.NewAPI())
		require.ErrorContains(t, err, name)
	}
}

func TestTelemetryKeepsTheServiceContract(t *testing.T) {
	servicetest.Stress(t, newRig(t, nil).svc)
}

func TestMetricsAreLint(t *testing.T) {
	r := newRig(t, nil)
	r.post("/api/v1/batches", "secret", batch(t, 3))
	r.post("/api/v1/batches", "", batch(t, 3))
	problems, err := testutil.GatherAndLint(r.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestThroughARealClient posts over TCP, and reads what arrived from a fake Kafka.
func TestThroughARealClient(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, kafka.TelemetryTopic))
	require.NoError(t, err)
	defer c.Close()
	producer, err := kafka.NewProducer(kafka.ProducerConfig{Cluster: kafka.Cluster{Brokers: c.ListenAddrs()}, Topics: []kafka.Topic{{Name: kafka.TelemetryTopic}}}, quiet())
	require.NoError(t, err)
	require.NoError(t, producer.Start(t.Context()))
	defer producer.Stop()
	require.Eventually(t, func() bool { return producer.Ready() == nil }, time.Minute, time.Millisecond)
	cfg := telemetry.DefaultConfig()
	cfg.Tokens = tokenFile(t, "secret")
	api := app.NewAPI()
	_, err = telemetry.New(cfg, telemetry.Deps{Producer: producer, Log: quiet(), Registry: prometheus.NewRegistry()}, api)
	require.NoError(t, err)
	server := httptest.NewServer(api)
	defer server.Close()
	sender, err := forward.NewHTTPS(server.URL+"/api/v1/batches", "secret", "")
	require.NoError(t, err)
	defer sender.Close()
	ack, err := sender.Send(t.Context(), batch(t, 500))
	require.NoError(t, err)
	require.Equal(t, forward.Ack{Stream: "node-1/abc", Last: 510}, ack)

	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(kafka.TelemetryTopic))
	require.NoError(t, err)
	defer client.Close()
	want := samples(500)
	for got := 0; got < len(want); {
		for _, rec := range client.PollFetches(t.Context()).Records() {
			var e twin.Event
			require.NoError(t, json.Unmarshal(rec.Value, &e))
			require.Equal(t, twin.EventOf(&want[got]), e)
			got++
		}
	}
}

func FuzzEvents(f *testing.F) {
	for _, seed := range []string{plain, "[" + plain + "]", plain + "\n" + plain, "[]", "[1,", "nonsense", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newRig(t, func(c *telemetry.Config) { c.Tokens, c.AllowAnonymous = "", true })
		w := r.post("/api/v1/events", "", body)
		a := answer(t, w)
		require.Len(t, r.broker.records, a.Accepted)
		for _, rec := range r.broker.records {
			var e twin.Event
			require.NoError(t, json.Unmarshal(rec.Value, &e), "what is accepted can be stored")
		}
	})
}
