package twin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/twin"
)

func TestParseDeviceID(t *testing.T) {
	for s, ok := range map[string]bool{
		"default/boiler": true, "a/b.c-d.0": true, "0/0": true,
		strings.Repeat("n", 63) + "/" + strings.Repeat("x", 253): true,
		strings.Repeat("n", 64) + "/x":                           false,
		"n/" + strings.Repeat("x", 254):                          false,
		"":                                                       false, "/": false, "a/": false, "/b": false, "a": false, "a/b/c": false,
		"a.b/c": false, "A/b": false, "a/-b": false, "a/b-": false, "a/b-.c": false, "a/b..c": false, "a/.b": false,
		"a/b.": false, "a/b_c": false, "a/+": false, "#/b": false, "a/é": false,
	} {
		id, err := twin.ParseDeviceID(s)
		require.Equal(t, ok, err == nil, "%q: %v", s, err)
		if ok {
			require.Equal(t, s, id.String())
		}
	}
}

func TestDeviceOfTopic(t *testing.T) {
	for _, topic := range []string{twin.TelemetryTopic(boiler), twin.CommandTopic(boiler), twin.ResultTopic(boiler), twin.AlertTopic(boiler)} {
		id, ok := twin.DeviceOfTopic(topic)
		require.True(t, ok, topic)
		require.Equal(t, boiler, id)
	}
	id, ok := twin.DeviceOfTopic("twinline/command/default/result")
	require.True(t, ok, "a device may be called result")
	require.Equal(t, "result", id.Name)
	for _, topic := range []string{"", twin.AckTopic("uplink"), twin.LinkTopic("n"), "twinline/command/a/b/other", "twinline/telemetry/a/b/result", "$hw/events/device/a/b/twin/update"} {
		_, ok := twin.DeviceOfTopic(topic)
		require.False(t, ok, topic)
	}
}

func TestAckIsKeyedByDevice(t *testing.T) {
	a := twin.Ack{Acks: map[twin.DeviceID]twin.Position{boiler: {Epoch: 1, Seq: 2}}}
	b, err := json.Marshal(a)
	require.NoError(t, err)
	require.Equal(t, `{"acks":{"default/boiler":{"epoch":1,"seq":2}}}`, string(b))
	var back twin.Ack
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, a, back)
	require.Error(t, json.Unmarshal([]byte(`{"acks":{"nobody":{"epoch":1}}}`), &back))
}

func TestProblemSaysWhereAndWhat(t *testing.T) {
	p := twin.Problem{Object: "Device default/boiler", Field: "spec.x", What: "70000 is too much", Remedy: "use 1"}
	require.Equal(t, "Device default/boiler: spec.x: 70000 is too much; use 1", p.Error())
	require.Equal(t, "70000 is too much", twin.Problem{What: "70000 is too much"}.Error())
}

func FuzzParseDeviceID(f *testing.F) {
	for _, s := range []string{"default/boiler", "a/b/c", "a/b-.c", "é/ü", "twinline/+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := twin.ParseDeviceID(s)
		if err != nil {
			return
		}
		require.Equal(t, s, id.String())
		require.NotContains(t, id.Name, "/")
		require.False(t, strings.ContainsAny(s, "+#$\x00"), "safe in a topic")
		back, ok := twin.DeviceOfTopic(twin.CommandTopic(id))
		require.True(t, ok)
		require.Equal(t, id, back)
	})
}
