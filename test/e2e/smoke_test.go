// Package e2e checks Twinline against the real components.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/twinline/twinline/test/e2e/stack"
)

// TestStackSmoke proves that the stack can do what the other tests need of it.
// It uses a stack that is up, or brings one up and takes it down at the end.
func TestStackSmoke(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: it starts containers and cuts a link")
	}
	s := bringUp(t)
	t.Run("twins", func(t *testing.T) { smokeTwins(t, s) })
	t.Run("kafka", func(t *testing.T) { smokeKafka(t, s) })
	t.Run("database", func(t *testing.T) { smokeDatabase(t, s) })
	t.Run("pod", func(t *testing.T) { smokePod(t, s) })
	t.Run("servicebus", func(t *testing.T) { smokeServiceBus(t, s) })
	t.Run("chaos", func(t *testing.T) { smokeChaos(t, s) })
	t.Run("link", func(t *testing.T) { smokeLink(t, s) })
	if t.Failed() {
		return
	}
	for _, h := range s.Status(t.Context()) {
		if h.Err != nil {
			t.Errorf("%s after the test: %v", h.Component, h.Err)
		}
	}
}

// bringUp returns a stack that is up. It is taken down at the end of the test
// unless it was up before.
func bringUp(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := stack.New(stack.Options{Out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	before := true
	for _, h := range s.Status(t.Context()) {
		before = before && h.Err == nil
	}
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !before {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if err := s.Down(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// eventually calls f until it returns nil, and fails the test with its last
// error when it does not in time, or at once when that is a stop.
func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		if err == nil {
			t.Logf("%s: after %.1f s", what, time.Since(start).Seconds())
			return
		}
		if over := (stop{}); errors.As(err, &over) {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Since(start) > within {
			t.Fatalf("%s: not after %s: %v", what, within, err)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// apply applies manifests and deletes their objects at the end of the test.
// EdgeCore asks the cloud to delete a pod, and asks again after a minute when there was no answer.
func apply(t *testing.T, s *stack.Stack, manifests string) {
	t.Helper()
	if err := s.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := s.Kubectl(context.Background(), []byte(manifests),
			"delete", "--ignore-not-found", "--wait=true", "--timeout=100s", "-f", "-")
		if err != nil {
			t.Error(err)
		}
	})
}

// smokeDevice is a Device with its model.
const smokeDevice = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: smoke-model, namespace: default}
spec:
  protocol: modbus
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: smoke-1, namespace: default}
spec:
  deviceModelRef: {name: smoke-model}
  nodeName: edge-1
  protocol: {protocolName: modbus}
  properties:
  - name: temperature
    reportToCloud: true
    visitors: {protocolName: modbus}
`

// smokeTwins declares a Device, finds it in MetaServer, reports a value on the
// broker and finds it in DeviceStatus.
func smokeTwins(t *testing.T, s *stack.Stack) {
	apply(t, s, smokeDevice)
	url := s.MetaServer + "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
	eventually(t, 60*time.Second, "device in MetaServer", func() error {
		body, err := get(t.Context(), url)
		if err == nil && !strings.Contains(body, `"name":"smoke-1"`) {
			err = fmt.Errorf("no smoke-1 in %.200q", body)
		}
		return err
	})
	client := connect(t, s)
	eventually(t, 60*time.Second, "twin in the cloud", func() error {
		// The cloud drops the value of the first report of a property.
		for range 2 {
			if err := report(client, "smoke-1", "20.5"); err != nil {
				return err
			}
		}
		return reported(t.Context(), s, "smoke-1", "20.5")
	})
}

// report publishes one twin update and returns EdgeCore's refusal, if any.
func report(client mqtt.Client, device, value string) error {
	topic := "$hw/events/device/default/" + device + "/twin/update"
	results := make(chan []byte, 1)
	token := client.Subscribe(topic+"/result", 1, func(_ mqtt.Client, m mqtt.Message) {
		select {
		case results <- m.Payload():
		default:
		}
	})
	if !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		return fmt.Errorf("subscribe to result: %w", token.Error())
	}
	update := fmt.Sprintf(`{"event_id":"smoke","timestamp":%d,"twin":{"temperature":`+
		`{"actual":{"value":%q},"metadata":{"type":"float"}}}}`, time.Now().UnixMilli(), value)
	if token := client.Publish(topic, 1, false, update); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		return fmt.Errorf("publish twin: %w", token.Error())
	}
	select {
	case payload := <-results:
		var result struct {
			Code   int
			Reason string
		}
		if err := json.Unmarshal(payload, &result); err != nil {
			return fmt.Errorf("parse twin result: %w", err)
		}
		if result.Code != 0 {
			return fmt.Errorf("twin update refused: %d %s", result.Code, result.Reason)
		}
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("no result of twin update of %s", device)
	}
}

// reported returns nil when the cloud has the value.
func reported(ctx context.Context, s *stack.Stack, device, want string) error {
	out, err := s.Kubectl(ctx, nil, "get", "devicestatus", device, "-o",
		`jsonpath={.status.twins[?(@.propertyName=="temperature")].reported.value}`)
	if err == nil && string(out) != want {
		err = fmt.Errorf("devicestatus %s: reported %q, want %q", device, out, want)
	}
	return err
}

// connect returns an MQTT client of the edge node's broker.
func connect(t *testing.T, s *stack.Stack) mqtt.Client {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(s.Broker).SetClientID("smoke"))
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("connect to %s: %v", s.Broker, token.Error())
	}
	t.Cleanup(func() { client.Disconnect(250) })
	return client
}

// smokeKafka sends a record and gets it back.
func smokeKafka(t *testing.T, s *stack.Stack) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const topic = "smoke"
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := admin.DeleteTopic(context.WithoutCancel(ctx), topic); err != nil {
			t.Error(err)
		}
	}()
	record := &kgo.Record{Topic: topic, Value: []byte("hello")}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if records := fetches.Records(); len(records) != 1 || string(records[0].Value) != "hello" {
		t.Errorf("got %d records, want the one that was sent", len(records))
	}
}

// smokeDatabase makes a hypertable as the ordinary user.
func smokeDatabase(t *testing.T, s *stack.Stack) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dsn, err := s.CreateDatabase(ctx, "smoke")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range []string{
		"CREATE EXTENSION IF NOT EXISTS timescaledb",
		"CREATE TABLE sample (time timestamptz NOT NULL, value float8)",
		"SELECT create_hypertable('sample', by_range('time'))",
		"INSERT INTO sample VALUES (now(), 1), (now() - interval '30 days', 2)",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	var chunks int
	err = conn.QueryRow(ctx, "SELECT num_chunks FROM timescaledb_information.hypertables").Scan(&chunks)
	if err != nil || chunks != 2 {
		t.Errorf("hypertable has %d chunks, %v; want 2", chunks, err)
	}
}
