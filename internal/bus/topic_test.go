package bus_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/bus"
)

func TestMatchFollowsMQTT(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/b/c", false},
		{"a/b", "a", false},
		{"a/+", "a/b", true},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"+", "/a", false},
		{"+/+", "/a", true},
		{"/+", "/a", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"#", "a/b", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"$hw/events/device/+/+/twin/update/result", "$hw/events/device/ns/dev/twin/update/result", true},
		{"$hw/events/device/+/+/twin/update/result", "$hw/events/device//twin/update/result", false},
		{"$hw/events/device/+/twin/update/result", "$hw/events/device//twin/update/result", true},
		{"twinline/command/+/+", "twinline/command/ns/dev/result", false},
	} {
		require.Equal(t, c.want, bus.Match(c.filter, c.topic), "%s on %s", c.filter, c.topic)
	}
}

func TestCheckFilter(t *testing.T) {
	for _, ok := range []string{"a", "/", "a/#", "#", "+", "+/a/+", "$SYS/#", "a//b", strings.Repeat("x", bus.MaxTopicLength)} {
		require.NoError(t, bus.CheckFilter(ok))
	}
	for _, no := range []string{"", "a/#/b", "a#", "a/b+", "++", "a\x00", "\xff", "$share/g/a", strings.Repeat("x", bus.MaxTopicLength+1)} {
		require.Error(t, bus.CheckFilter(no), "%.40q", no)
	}
}

func TestCheckTopic(t *testing.T) {
	require.NoError(t, bus.CheckTopic("a/b"))
	for _, no := range []string{"", "a/+", "#", "a\x00", "\xff"} {
		require.Error(t, bus.CheckTopic(no), "%q", no)
	}
}

// A filter made of a topic by putting + for a level or # for its end matches it.
func FuzzMatch(f *testing.F) {
	f.Add("a/b/c", "a/+/c", uint8(1))
	f.Add("$hw/events", "#", uint8(0))
	f.Add("//", "/#", uint8(2))
	f.Fuzz(func(t *testing.T, topic, filter string, at uint8) {
		if bus.CheckFilter(filter) == nil {
			bus.Match(filter, topic) // ends, and does not panic
		}
		if bus.CheckTopic(topic) != nil {
			return
		}
		require.True(t, bus.Match(topic, topic))
		if strings.HasPrefix(topic, "$") {
			return
		}
		levels := strings.Split(topic, "/")
		i := int(at) % len(levels)
		require.True(t, bus.Match(strings.Join(append(append([]string{}, levels[:i]...), "#"), "/"), topic))
		levels[i] = "+"
		require.True(t, bus.Match(strings.Join(levels, "/"), topic))
	})
}
