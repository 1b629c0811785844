package mapper_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// saying makes the driver answer with what say returns.
func (h *harness) saying(say func(name string) twin.Reading) {
	h.driver.ReadFn = func(_ context.Context, _ twin.DeviceID, names []string) ([]twin.Reading, error) {
		out := make([]twin.Reading, len(names))
		for i, name := range names {
			out[i] = say(name)
			out[i].Property = name
		}
		return out, nil
	}
}

func TestWhatADeviceSaysByItselfHasItsOwnTime(t *testing.T) {
	inBubble(t, device(property("a", twin.TypeInt, time.Second), property("b", twin.TypeInt, time.Second), property("c", twin.TypeInt, time.Second)), nil, func(t *testing.T, h *harness) {
		begin := time.Now()
		times := map[string]time.Time{"a": begin.Add(-time.Minute), "b": begin.Add(-time.Hour)}
		h.saying(func(name string) twin.Reading { return twin.Reading{Value: twin.IntValue(1), Time: times[name]} })
		h.start()
		h.pass(time.Second)
		samples := h.samples(boiler)
		require.Len(t, samples, 3, "a sample for each time")
		for i, name := range []string{"b", "a", "c"} {
			require.Equal(t, uint64(i+1), samples[i].Seq)
			require.Len(t, samples[i].Readings, 1)
			require.Equal(t, name, samples[i].Readings[0].Property, "the earliest first")
		}
		require.Equal(t, begin.Add(-time.Hour).UTC(), samples[0].Time)
		require.Equal(t, begin.Add(-time.Minute).UTC(), samples[1].Time)
		require.False(t, samples[2].Time.Before(begin), "without one it is that of the poll")
	})
}

func TestNothingNewIsLeftOut(t *testing.T) {
	inBubble(t, device(property("a", twin.TypeInt, time.Second), property("b", twin.TypeInt, time.Second)), nil, func(t *testing.T, h *harness) {
		polls := 0
		h.saying(func(name string) twin.Reading {
			if name == "a" {
				polls++
			}
			switch {
			case polls == 1 || (polls == 4 && name == "a"):
				return twin.Reading{Value: twin.IntValue(int64(polls))}
			case polls == 5:
				return twin.BadReading(name, "stale")
			}
			return twin.Reading{Quality: mapper.NothingNew}
		})
		h.start()
		h.pass(6 * time.Second)
		samples := h.samples(boiler)
		require.Len(t, samples, 3, "a poll that finds nothing new is no sample")
		require.Len(t, samples[0].Readings, 2)
		require.Len(t, samples[1].Readings, 1)
		require.Equal(t, twin.IntValue(4), samples[1].Readings[0].Value)
		require.Equal(t, twin.Bad("stale"), samples[2].Readings[1].Quality)
		require.Equal(t, []twin.DeviceState{twin.Online, twin.Unhealthy}, h.twins.States(boiler), "silence between two values changes no state")
		require.Zero(t, h.m.Stats().DriverFaults)
	})
}

func TestAWriteWaitsUntilTheDeviceSaysTheValue(t *testing.T) {
	inBubble(t, device(setpoint()), nil, func(t *testing.T, h *harness) {
		var written twin.Value
		said := time.Now()
		h.driver.WriteFn = func(_ context.Context, _ twin.DeviceID, _ string, v twin.Value) (twin.Value, error) {
			written = v
			return v, nil
		}
		h.saying(func(string) twin.Reading {
			if time.Since(said) < 3*time.Second {
				return twin.Reading{Quality: mapper.NothingNew}
			}
			said = time.Now()
			return twin.Reading{Value: written, Time: said}
		})
		written = twin.FloatValue(1)
		h.start()
		h.pass(time.Second)
		h.command(boiler, twin.Command{ID: "c", Property: "setpoint", Value: twin.FloatValue(60), Source: "test", Priority: 8})
		require.Equal(t, []string{"c pending"}, h.story())
		h.pass(5 * time.Second)
		require.Equal(t, []string{"c pending", "c applied"}, h.story())
		synctest.Wait()
	})
}
