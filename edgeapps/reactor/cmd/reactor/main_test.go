package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/edgeapps/reactor"
	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/bus"
	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestReactionOverABroker runs the binary's parts on a broker: the demo's own
// rule, from its folder, through a restart of the broker.
func TestReactionOverABroker(t *testing.T) {
	broker := bustest.Start(t)
	log, err := app.NewLogger(os.Stderr, "error", "text")
	require.NoError(t, err)
	cfg := reactor.DefaultConfig()
	cfg.Bus, cfg.Node, cfg.Rules, cfg.State = broker.URL(), "desk", "../../../../examples/demo/rules", filepath.Join(t.TempDir(), "state")
	rt := &app.Runtime{Log: log, Registry: prometheus.NewRegistry(), API: app.NewAPI()}
	svc, err := build(rt, cfg)
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	t.Cleanup(svc.Stop)

	client := bus.New(bus.Config{URL: broker.URL()})
	boiler := twin.DeviceID{Namespace: "default", Name: "boiler"}
	commands := make(chan twin.Command, 100)
	_, err = client.Subscribe(twin.CommandTopic(boiler), func(_ string, payload []byte) {
		var c twin.Command
		if json.Unmarshal(payload, &c) == nil {
			commands <- c
		}
	})
	require.NoError(t, err)
	require.NoError(t, client.Start(t.Context()))
	t.Cleanup(client.Stop)

	seq := uint64(0)
	// measure reports a temperature, again and again as a mapper does, until a command comes.
	measure := func(temperature float64) twin.Command {
		for {
			seq++
			b, err := json.Marshal(twin.Sample{Device: boiler, Epoch: 1, Seq: seq, Time: time.Now(), Readings: []twin.Reading{{Property: "temperature", Value: twin.FloatValue(temperature)}}})
			require.NoError(t, err)
			require.NoError(t, client.Publish(t.Context(), twin.TelemetryTopic(boiler), b))
			select {
			case c := <-commands:
				return c
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	claim := measure(99)
	require.Equal(t, twin.BoolValue(true), claim.Value)
	require.Equal(t, "pump", claim.Property)
	broker.Restart(t)
	release := measure(20)
	for ; !release.Value.IsZero(); release = measure(20) {
		require.Equal(t, claim.ID, release.ID, "a claim nobody answered is sent again")
	}
	require.Equal(t, claim.Source, release.Source)
}

func TestWrongBrokerIsAMistakeOfTheConfiguration(t *testing.T) {
	cfg := reactor.DefaultConfig()
	cfg.Bus = "carrier://pigeon"
	_, err := build(&app.Runtime{}, cfg)
	require.ErrorIs(t, err, app.ErrConfig)
	cfg = reactor.DefaultConfig()
	require.Error(t, cfg.Validate())
}
