package e2e

import (
	"os"
	"testing"
	"time"
)

// TestTwinline proves Twinline on the real components, from the Devices that kubectl
// applies to the rows in the database, and back to the registers. Its subtests go on from
// each other. It uses a stack that is up, or brings one up and takes it down.
func TestTwinline(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: it starts containers and cuts a link")
	}
	p := newPlant(t)
	for _, theme := range []struct {
		name string
		test func(*testing.T)
	}{
		{"devices become twins", p.testTwins},
		{"a wrong declaration harms nobody", p.testBrokenDevice},
		{"desired values reach the registers", p.testDesired},
		{"desired values reach an instrument on a serial line", p.testSerial},
		{"a restart of the mapper writes nothing", p.testMapperRestart},
		{"samples reach the database", p.testTelemetry},
		{"a second node sends by HTTPS", p.testHTTPS},
		{"events of anyone with a token", p.testEvents},
		{"events of a Python producer", p.testPythonProducer},
		{"device management shows and sets twins", p.testDeviceMgmt},
		{"nothing is lost or doubled by an outage", p.testOutage},
		{"faults on the line are never values", p.testFaults},
		{"KubeEdge is unharmed", p.testUnharmed},
		{"every part ends when it is told to", p.testStop},
	} {
		t.Run(theme.name, theme.test)
	}
	p.recorder.check(t)
}

// The real components, as the report counts them.
const (
	kubernetes  = "Kubernetes v1.33.13"
	kubeEdge    = "KubeEdge v1.23.1"
	kafkaBroker = "Kafka 4.1.0"
	database    = "TimescaleDB on PostgreSQL 17"
	broker      = "Mosquitto"
	containerd  = "containerd"
)

// on names what a test ran on.
func on(t *testing.T, things ...string) {
	t.Helper()
	for _, thing := range things {
		t.Attr("real", thing)
	}
}

// outage is how long the link is cut: $TWINLINE_E2E_CUT, or two minutes.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TWINLINE_E2E_CUT")
	if text == "" {
		return 2 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 30*time.Second {
		t.Fatalf("TWINLINE_E2E_CUT=%q: want a duration of 30s or more", text)
	}
	return d
}
