package mappertest_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(name string, typ twin.Type, writable bool) twin.Property {
	return twin.Property{Name: name, Type: typ, Writable: writable, CollectCycle: time.Second, ReportCycle: time.Second, Visitor: map[string]any{"key": name}}
}

func TestMemoryDriver(t *testing.T) {
	d := &mappertest.Driver{}
	var names atomic.Int64
	device := func(*testing.T) twin.Device {
		dev := twin.Device{
			ID: twin.DeviceID{Namespace: "default", Name: fmt.Sprint("d", names.Add(1))}, Protocol: mappertest.Protocol,
			Properties: []twin.Property{key("count", twin.TypeInt, false), key("level", twin.TypeDouble, true), key("on", twin.TypeBoolean, true), key("label", twin.TypeString, true)},
		}
		for _, p := range dev.Properties {
			v, _ := mappertest.Values(p)
			d.Set(dev.ID, p.Name, v)
		}
		return dev
	}
	without := func(names ...string) func(*testing.T) twin.Device {
		return func(t *testing.T) twin.Device {
			dev := device(t)
			for _, name := range names {
				p, _ := dev.Property(name)
				p.Visitor = nil
			}
			return dev
		}
	}
	mappertest.Suite{
		New:      func(*testing.T) mapper.Driver { return d },
		Device:   device,
		Change:   func(_ *testing.T, dev twin.Device, p string, v twin.Value) { d.Set(dev.ID, p, v) },
		Break:    func(_ *testing.T, dev twin.Device) { d.Break(dev.ID, &mapper.Fault{Why: "timeout"}) },
		Mend:     func(_ *testing.T, dev twin.Device) { d.Mend(dev.ID) },
		Hang:     func(_ *testing.T, dev twin.Device) { d.Hang(dev.ID) },
		Refuse:   func(_ *testing.T, dev twin.Device, p string) { d.Refuse(dev.ID, p) },
		Requests: d.Requests,
		Mistakes: []mappertest.Mistake{
			{Name: "two properties without a key", Device: without("level", "on"), Problems: 2, Refused: []string{"level", "on"}},
			{Name: "no property with a key", Device: without("count", "level", "on", "label"), Problems: 4, Whole: true},
		},
	}.Run(t)
}

func TestValuesAreInRange(t *testing.T) {
	for _, p := range []twin.Property{
		{Type: twin.TypeInt},
		{Type: twin.TypeInt, Minimum: twin.IntValue(10), Maximum: twin.IntValue(20)},
		{Type: twin.TypeDouble, Minimum: twin.FloatValue(-2.5), Maximum: twin.FloatValue(1.5)},
	} {
		a, b := mappertest.Values(p)
		require.False(t, a.IsZero() || b.IsZero() || a.Equal(b))
		require.NoError(t, p.CheckRange(a))
		require.NoError(t, p.CheckRange(b))
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/+", "a/b", true},
		{"+/+", "a/b", true},
		{"#", "a/b", true},
		{"a/#", "a/b/c", true},
		{"a/+", "a/b/c", false},
		{"a/+/c", "a/b", false},
		{"a", "b", false},
	} {
		require.Equal(t, c.want, mappertest.Matches(c.filter, c.topic), "%s %s", c.filter, c.topic)
	}
}
