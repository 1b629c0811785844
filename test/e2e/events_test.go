package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// testEvents posts plain JSON events. With a token they are stored; without they are refused.
func (p *plant) testEvents(t *testing.T) {
	on(t, kafkaBroker, database)
	p.concerns(t, "telemetry", "storage")
	ctx := t.Context()
	url := "http://" + p.api["telemetry"] + "/api/v1/events"
	event := func(device string) string {
		return fmt.Sprintf(`{"device_id":%q,"timestamp":%q,"data":{"force":12.5,"count":3,"closed":true,"tool":"punch 7"}}`,
			device, time.Now().UTC().Format(time.RFC3339Nano))
	}
	for _, token := range []string{"", "wrong"} {
		var status *statusError
		if _, err := call(ctx, http.MethodPost, url, token, event("press-0")); !errors.As(err, &status) || status.code != http.StatusUnauthorized {
			t.Errorf("with the token %q: %v, want 401", token, err)
		}
	}
	if body, err := call(ctx, http.MethodPost, url, p.token, event("press-1")); err != nil || !strings.Contains(body, `"accepted":1`) {
		t.Errorf("one event: %s, %v", body, err)
	}
	// One of three is wrong; the others pass.
	body, err := call(ctx, http.MethodPost, url, p.token, "["+event("press-2")+`,{"device_id":"press-2"},`+event("press-3")+"]")
	if err != nil || !strings.Contains(body, `"accepted":2`) || !strings.Contains(body, `"index":1`) {
		t.Errorf("three events: %s, %v", body, err)
	}
	eventually(t, 30*time.Second, "the events are stored", func() error {
		return errors.Join(p.haveRows(ctx, "press-0", 0), p.haveRows(ctx, "press-1", 4), p.haveRows(ctx, "press-2", 4), p.haveRows(ctx, "press-3", 4))
	})
}

// testPythonProducer lets Debian's python3-kafka write events of the reference
// architecture, and one record that is none.
func (p *plant) testPythonProducer(t *testing.T) {
	on(t, kafkaBroker, database, "kafka-python of Debian")
	p.concerns(t, "storage")
	device := p.Namespace + "-python"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Without a zone the time is UTC, whatever the zone of the producer.
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "testdata/producer.py", p.stack.Kafka, telemetryTopic, device)
	cmd.Env = append(os.Environ(), "TZ=Asia/Tokyo")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("producer: %v: %s", err, out)
	}
	eventually(t, 30*time.Second, "its events are stored", func() error { return p.haveRows(t.Context(), device, 30) })
	p.storedNow(t, device)

	record, err := p.consume(t.Context(), deadLetterTopic, func(r *kgo.Record) bool { return string(r.Value) == "this is no event of "+device })
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, h := range record.Headers {
		headers[h.Key] = string(h.Value)
	}
	if headers["twinline_error"] == "" || headers["twinline_topic"] != telemetryTopic || headers["twinline_partition"] == "" ||
		headers["twinline_offset"] == "" || string(record.Key) != "garbage" {
		t.Errorf("dead letter with the key %q and the headers %v", record.Key, headers)
	}
}

// storedNow checks that a device's rows are not hours away, as a wrong zone would make them.
func (p *plant) storedNow(t *testing.T, device string) {
	t.Helper()
	record, err := p.consume(t.Context(), telemetryTopic, func(r *kgo.Record) bool { return string(r.Key) == device })
	if err != nil {
		t.Fatal(err)
	}
	var event struct{ Timestamp string }
	if err := json.Unmarshal(record.Value, &event); err != nil || strings.ContainsAny(event.Timestamp, "Z+") {
		t.Errorf("the producer's time is %q, %v; want one without a zone", event.Timestamp, err)
	}
	out, err := p.query(t.Context(), "SELECT count(*) FROM telemetry WHERE device_id = $1 AND abs(extract(epoch FROM now() - time)) < 300", device)
	if err != nil || out != 30 {
		t.Errorf("%d rows are of the last minutes, %v; want 30", out, err)
	}
}
