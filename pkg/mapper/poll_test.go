package mapper_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

func TestSamplesAreNumberedTimedAndReported(t *testing.T) {
	quiet := property("quiet", twin.TypeInt, time.Second)
	quiet.ReportToCloud = false
	inBubble(t, device(setpoint(), quiet), nil, func(t *testing.T, h *harness) {
		begin := time.Now()
		h.start()
		h.pass(10 * time.Second)
		samples := h.samples(boiler)
		require.Len(t, samples, 10)
		for i, s := range samples {
			require.Equal(t, uint64(1), s.Epoch)
			require.Equal(t, uint64(i+1), s.Seq)
			require.Equal(t, samples[0].Time.Add(time.Duration(i)*time.Second), s.Time)
			require.Len(t, s.Readings, 2, "one read of the union")
		}
		require.Less(t, samples[0].Time.Sub(begin), time.Second)
		for _, r := range h.twins.Reports(boiler) {
			require.NotEqual(t, "quiet", r.Property)
		}
		require.Equal(t, []twin.DeviceState{twin.Online}, h.twins.States(boiler))
		h.restart()
		h.pass(time.Second)
		last := h.samples(boiler)[10]
		require.Equal(t, uint64(2), last.Epoch, "the epoch rises with each start")
		require.Equal(t, uint64(1), last.Seq)
	})
}

func TestCyclesThatAreMultiplesAreReadTogether(t *testing.T) {
	inBubble(t, device(property("fast", twin.TypeInt, time.Second), property("slow", twin.TypeInt, 5*time.Second)), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(11 * time.Second)
		for i, s := range h.samples(boiler) {
			want := 1
			if i%5 == 0 {
				want = 2
			}
			require.Len(t, s.Readings, want, "sample %d", i)
		}
	})
}

func TestDevicesDoNotPollAllAtOnce(t *testing.T) {
	const many = 1000
	devices := make([]twin.Device, many)
	for i := range devices {
		devices[i] = twin.Device{ID: twin.DeviceID{Namespace: "plant", Name: fmt.Sprint("d", i)}, Protocol: mappertest.Protocol, Properties: []twin.Property{property("x", twin.TypeInt, time.Second)}}
	}
	inBubble(t, devices[0], nil, func(t *testing.T, h *harness) {
		h.source.Set(devices)
		begin := time.Now()
		h.start()
		h.pass(time.Second)
		tenths, instants := make([]int, 10), map[time.Time]bool{}
		for _, d := range devices {
			s := h.samples(d.ID)
			require.NotEmpty(t, s)
			tenths[min(9, s[0].Time.Sub(begin)*10/time.Second)]++
			instants[s[0].Time] = true
		}
		require.LessOrEqual(t, len(instants), 10, "devices share wake-ups")
		for i, n := range tenths {
			require.InDelta(t, many/10, n, many/20, "polls in tenth %d of the second", i)
		}
	})
}

func TestALatePollCausesNoBurst(t *testing.T) {
	inBubble(t, device(property("x", twin.TypeInt, time.Second)), func(h *harness, _ *mapper.Config) {
		slow := 4500 * time.Millisecond
		h.driver.ReadFn = func(_ context.Context, _ twin.DeviceID, names []string) ([]twin.Reading, error) {
			time.Sleep(slow)
			slow = 0
			return []twin.Reading{{Property: names[0], Value: twin.IntValue(1)}}, nil
		}
	}, func(t *testing.T, h *harness) {
		h.start()
		h.pass(8900 * time.Millisecond)
		samples := h.samples(boiler)
		var at []time.Duration
		for _, s := range samples {
			at = append(at, s.Time.Sub(samples[0].Time))
		}
		require.Equal(t, []time.Duration{0, 5 * time.Second, 6 * time.Second, 7 * time.Second, 8 * time.Second}, at)
		require.Equal(t, uint64(4), h.m.Stats().LatePolls)
	})
}

func TestAReadErrorIsQualityOfAllAndTheDeviceOffline(t *testing.T) {
	inBubble(t, device(property("a", twin.TypeInt, time.Second), property("b", twin.TypeInt, time.Second)), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(2 * time.Second)
		h.driver.Break(boiler, fmt.Errorf("poll: %w", &mapper.Fault{Why: "crc"}))
		h.pass(2 * time.Second)
		h.driver.Break(boiler, &mapper.Fault{Why: "Not A Word!"})
		h.pass(time.Second)
		samples := h.samples(boiler)
		require.Equal(t, []twin.Reading{twin.BadReading("a", "crc"), twin.BadReading("b", "crc")}, samples[2].Readings)
		require.Equal(t, twin.BadReading("a", "error"), samples[4].Readings[0])
		h.driver.Mend(boiler)
		h.pass(time.Second)
		require.Equal(t, []twin.DeviceState{twin.Online, twin.Offline, twin.Online}, h.twins.States(boiler))
		s := h.m.Stats()
		require.Equal(t, uint64(3), s.PollErrors)
		require.Equal(t, uint64(6), s.Bad)
		require.Equal(t, uint64(6), s.Good)
		require.Equal(t, map[twin.DeviceState]int{twin.Online: 1}, s.Devices)
	})
}

func TestADriverThatBreaksItsContractCorruptsNothing(t *testing.T) {
	limited := property("b", twin.TypeInt, time.Second)
	limited.Maximum = twin.IntValue(10)
	good := twin.Reading{Property: "a", Value: twin.FloatValue(1)}
	for _, c := range []struct {
		name   string
		got    []twin.Reading
		a, b   twin.Reading
		faults uint64
	}{
		{"nothing", nil, twin.BadReading("a", "driver"), twin.BadReading("b", "driver"), 2},
		{"one is missing", []twin.Reading{good}, good, twin.BadReading("b", "driver"), 1},
		{"the order is wrong", []twin.Reading{{Property: "b", Value: twin.IntValue(2)}, good}, good, twin.Reading{Property: "b", Value: twin.IntValue(2)}, 0},
		{"one comes twice", []twin.Reading{good, {Property: "b", Value: twin.IntValue(2)}, {Property: "b", Value: twin.IntValue(3)}}, good, twin.BadReading("b", "driver"), 1},
		{"one nobody asked for", []twin.Reading{good, {Property: "b", Value: twin.IntValue(2)}, {Property: "c", Value: twin.IntValue(3)}}, good, twin.Reading{Property: "b", Value: twin.IntValue(2)}, 0},
		{"the wrong type", []twin.Reading{good, {Property: "b", Value: twin.StringValue("2")}}, good, twin.BadReading("b", "driver"), 1},
		{"the same number in another type", []twin.Reading{{Property: "a", Value: twin.IntValue(1)}, {Property: "b", Value: twin.FloatValue(2)}}, good, twin.Reading{Property: "b", Value: twin.IntValue(2)}, 0},
		{"a fraction for an integer", []twin.Reading{good, {Property: "b", Value: twin.FloatValue(2.5)}}, good, twin.BadReading("b", "driver"), 1},
		{"not a number", []twin.Reading{good, {Property: "b"}}, good, twin.BadReading("b", "driver"), 1},
		{"bad with a value", []twin.Reading{good, {Property: "b", Value: twin.IntValue(2), Quality: twin.Bad("crc")}}, good, twin.BadReading("b", "crc"), 0},
		{"no quality at all", []twin.Reading{good, {Property: "b", Value: twin.IntValue(2), Quality: "fine"}}, good, twin.BadReading("b", "driver"), 1},
		{"out of range", []twin.Reading{good, {Property: "b", Value: twin.IntValue(11)}}, good, twin.Reading{Property: "b", Value: twin.IntValue(11), Quality: twin.Uncertain("range")}, 0},
		{"uncertain and out of range", []twin.Reading{good, {Property: "b", Value: twin.IntValue(11), Quality: twin.Uncertain("stale")}}, good, twin.Reading{Property: "b", Value: twin.IntValue(11), Quality: twin.Uncertain("stale")}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, device(property("a", twin.TypeDouble, time.Second), limited), func(h *harness, _ *mapper.Config) {
				h.driver.ReadFn = func(context.Context, twin.DeviceID, []string) ([]twin.Reading, error) { return c.got, nil }
			}, func(t *testing.T, h *harness) {
				h.start()
				h.pass(time.Second)
				require.Equal(t, []twin.Reading{c.a, c.b}, h.samples(boiler)[0].Readings)
				require.Equal(t, c.faults, h.m.Stats().DriverFaults)
			})
		})
	}
}

func TestAPanicOfTheDriverIsAQuality(t *testing.T) {
	inBubble(t, device(property("a", twin.TypeInt, time.Second)), func(h *harness, _ *mapper.Config) {
		h.driver.ReadFn = func(context.Context, twin.DeviceID, []string) ([]twin.Reading, error) { panic("boom") }
	}, func(t *testing.T, h *harness) {
		h.start()
		h.pass(2 * time.Second)
		require.Equal(t, twin.BadReading("a", "panic"), h.samples(boiler)[0].Readings[0])
		require.Equal(t, uint64(2), h.m.Stats().Panics)
	})
	inBubble(t, device(property("a", twin.TypeInt, time.Second)), func(h *harness, _ *mapper.Config) {
		h.driver.OpenFn = func(twin.Device) (mapper.Conn, []twin.Problem) { panic("boom") }
	}, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Second)
		require.Equal(t, twin.BadReading("a", "config"), h.samples(boiler)[0].Readings[0])
		require.ErrorContains(t, h.m.Problems()[0], "panicked in Open: boom")
	})
}

func TestACallThatHangsIsEnded(t *testing.T) {
	inBubble(t, device(property("a", twin.TypeInt, time.Second)), nil, func(t *testing.T, h *harness) {
		h.driver.Hang(boiler)
		h.start()
		h.pass(mapper.DefaultCallTimeout + 2*time.Second)
		require.Equal(t, twin.BadReading("a", "timeout"), h.samples(boiler)[0].Readings[0])
		h.m.Stop() // during the next one
		require.Len(t, h.samples(boiler), 1, "what a stop ends is no finding about the device")
	})
}

func TestOneMistakeDoesNotHideItsNeighbours(t *testing.T) {
	broken := property("broken", twin.TypeInt, time.Second)
	broken.Visitor = nil
	inBubble(t, device(setpoint(), broken), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Second)
		require.Equal(t, []twin.Reading{twin.BadReading("broken", "config"), {Property: "setpoint", Value: twin.FloatValue(1)}}, h.samples(boiler)[0].Readings)
		require.Equal(t, []twin.DeviceState{twin.Online}, h.twins.States(boiler))
		require.Len(t, h.m.Problems(), 1)
		require.NotEmpty(t, h.m.Problems()[0].Remedy)
		require.Len(t, h.m.Devices()[0].Problems, 1)
		h.source.Set([]twin.Device{device(broken)})
		h.pass(time.Minute)
		require.Equal(t, []twin.DeviceState{twin.Online, twin.Unhealthy}, h.twins.States(boiler))
		h.source.Set([]twin.Device{device(setpoint())}, twin.Problem{Object: "Device default/other", What: "no model"})
		h.pass(time.Second)
		require.Equal(t, []twin.Problem{{Object: "Device default/other", What: "no model"}}, h.m.Problems(), "what was mended is gone")
		require.Equal(t, twin.Online, h.m.Devices()[0].State)
	})
}

func TestADeviceWithoutPropertiesIsUnhealthy(t *testing.T) {
	inBubble(t, device(), func(h *harness, _ *mapper.Config) {
		h.driver.OpenFn = func(twin.Device) (mapper.Conn, []twin.Problem) { return nil, nil }
	}, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Second)
		require.Equal(t, []twin.DeviceState{twin.Unhealthy}, h.twins.States(boiler))
		require.Len(t, h.m.Problems(), 1, "a driver that refuses silently is spoken for")
	})
}

func TestTheStateIsRepeatedAtItsCycle(t *testing.T) {
	d := device(property("a", twin.TypeInt, time.Hour))
	d.StateReportCycle = 30 * time.Second
	inBubble(t, d, nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(121 * time.Second)
		require.Len(t, h.twins.States(boiler), 1+4)
	})
}

func TestTheSetOfDevicesIsFollowed(t *testing.T) {
	other := device(property("x", twin.TypeInt, time.Second))
	other.ID.Name = "other"
	foreign := other
	foreign.ID.Name, foreign.Protocol = "foreign", "ble"
	inBubble(t, device(setpoint()), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(3 * time.Second)
		h.source.Set([]twin.Device{device(setpoint()), other, other, foreign})
		h.pass(2 * time.Second)
		require.Len(t, h.m.Devices(), 2)
		require.ErrorContains(t, h.m.Problems()[0], "declared twice")
		opened, closed := h.driver.Opens(boiler)
		require.Equal(t, [2]int{1, 0}, [2]int{opened, closed}, "what did not change is left alone")

		faster := setpoint()
		faster.CollectCycle = 500 * time.Millisecond
		h.source.Set([]twin.Device{device(faster)})
		h.pass(2 * time.Second)
		opened, closed = h.driver.Opens(boiler)
		require.Equal(t, [2]int{2, 1}, [2]int{opened, closed}, "what changed is opened anew")
		require.Equal(t, []twin.DeviceID{other.ID}, h.twins.Forgotten())
		count := len(h.samples(other.ID))
		h.pass(3 * time.Second)
		require.Len(t, h.samples(other.ID), count, "what is gone is not polled")
		h.source.Set([]twin.Device{device(faster), other})
		h.pass(time.Second)
		for _, id := range []twin.DeviceID{boiler, other.ID} {
			for i, s := range h.samples(id) {
				require.Equal(t, uint64(i+1), s.Seq, "the sequence goes on, whatever is opened anew")
			}
		}
	})
}

func TestStartAndRunErrors(t *testing.T) {
	inBubble(t, device(setpoint()), nil, func(t *testing.T, h *harness) {
		broken := errors.New("disk full")
		h.store.Fail(broken)
		require.ErrorIs(t, h.m.Start(t.Context()), broken)
		h.store.Fail(nil)
		h.start()
		gone := errors.New("gone")
		h.source.Fail(gone)
		<-h.m.Done()
		require.ErrorIs(t, h.m.Err(), gone)
		synctest.Wait()
	})
}

func TestThereIsABoundOnDevices(t *testing.T) {
	devices := make([]twin.Device, mapper.MaxDevices+1)
	for i := range devices {
		devices[i] = twin.Device{ID: twin.DeviceID{Namespace: "plant", Name: fmt.Sprint("d", i)}, Properties: []twin.Property{property("x", twin.TypeInt, time.Hour)}}
	}
	inBubble(t, devices[0], nil, func(t *testing.T, h *harness) {
		h.source.Set(devices)
		h.start()
		require.Len(t, h.m.Devices(), mapper.MaxDevices)
		require.ErrorContains(t, h.m.Problems()[0], "more than 10000 devices")
	})
}
