package mapper_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

func tank() twin.Device { return device(setpoint()) }

func TestADesiredValueIsWrittenReadBackReportedAndRecorded(t *testing.T) {
	inBubble(t, desired(tank(), "21.5"), nil, func(t *testing.T, h *harness) {
		h.start()
		require.Equal(t, []string{"21.5"}, h.written("setpoint"), "a new device with a desired value is a new desire")
		require.Equal(t, []string{"desired applied"}, h.story())
		require.Equal(t, twin.FloatValue(21.5), h.results()[0].Value)
		require.Equal(t, twin.Reading{Property: "setpoint", Value: twin.FloatValue(21.5)}, h.twins.Reports(boiler)[0])
		record, err := h.store.LastDesired(boiler)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"setpoint": "21.5"}, record)

		h.source.Set([]twin.Device{desired(tank(), "30")})
		h.pass(time.Second)
		require.Equal(t, []string{"21.5", "30"}, h.written("setpoint"))
		opened, _ := h.driver.Opens(boiler)
		require.Equal(t, 1, opened, "a change of the desired value does not open the device anew")
		require.Equal(t, uint64(2), h.m.Stats().Writes[twin.Applied])
	})
}

func TestNothingIsWrittenForAReadARestartOrAReconnect(t *testing.T) {
	inBubble(t, desired(tank(), "21.5"), nil, func(t *testing.T, h *harness) {
		h.start()
		h.driver.Set(boiler, "setpoint", twin.FloatValue(99)) // somebody turned the knob
		h.pass(10 * time.Second)
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.pass(10 * time.Second)
		h.driver.Mend(boiler)
		h.bus.Break()
		h.pass(10 * time.Second)
		h.bus.Mend()
		h.restart()
		h.pass(10 * time.Second)
		faster := desired(tank(), "21.5")
		faster.Properties[0].CollectCycle = 100 * time.Millisecond
		h.source.Set([]twin.Device{faster})
		h.pass(10 * time.Second)
		require.Equal(t, []string{"21.5"}, h.written("setpoint"))
		require.Equal(t, twin.FloatValue(99), h.driver.Get(boiler, "setpoint"))
	})
}

func TestADesireThatWasNotAppliedBeforeARestartIsStillPending(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout", Err: errors.New("no answer")})
		h.start()
		h.source.Set([]twin.Device{desired(tank(), "42")})
		h.pass(2 * time.Minute)
		require.Equal(t, []string{"desired timed-out"}, h.story())
		require.Contains(t, h.results()[0].Reason, "no answer")
		require.Equal(t, uint64(1), h.m.Stats().Writes[twin.Pending])
		n := len(h.written("setpoint"))
		require.InDelta(t, 7, n, 1, "tried after 1, 2, 4, 8, 16, 32 and 60 s")
		h.restart()
		h.pass(3 * time.Second)
		h.driver.Mend(boiler)
		h.pass(2 * time.Second)
		require.Equal(t, twin.FloatValue(42), h.driver.Get(boiler, "setpoint"))
		require.Equal(t, "desired applied", h.story()[len(h.story())-1])
		h.restart()
		n = len(h.written("setpoint"))
		h.pass(time.Minute)
		require.Len(t, h.written("setpoint"), n)
	})
}

func TestADeviceThatAnswersAgainIsWrittenAtOnce(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Second)
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.source.Set([]twin.Device{desired(tank(), "42")})
		h.pass(10 * time.Minute)
		h.driver.Mend(boiler)
		h.pass(time.Second)
		require.Equal(t, twin.FloatValue(42), h.driver.Get(boiler, "setpoint"))
	})
}

func TestWithoutAStoreValuesThatAreThereAreNotWritten(t *testing.T) {
	inBubble(t, desired(tank(), "21.5"), func(_ *harness, c *mapper.Config) { c.Store = nil }, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Minute)
		require.Empty(t, h.written("setpoint"))
		h.source.Set([]twin.Device{desired(tank(), "22")})
		h.pass(time.Second)
		require.Equal(t, []string{"22"}, h.written("setpoint"), "a change is")
	})
}

func TestAStoreThatFailsNeitherWritesTooMuchNorStopsWriting(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.store.Fail(errors.New("disk full"))
		h.source.Set([]twin.Device{desired(tank(), "22")})
		h.pass(time.Second)
		require.Equal(t, []string{"22"}, h.written("setpoint"))
		require.Equal(t, uint64(1), h.m.Stats().StoreErrors)
		require.Zero(t, h.store.Saves())
		h.store.Fail(nil)
		h.pass(time.Minute)
		require.Equal(t, 1, h.store.Saves(), "stored when it can be")

		other := desired(tank(), "5")
		other.ID.Name = "unreadable"
		h.store.Fail(errors.New("corrupt"))
		h.source.Set([]twin.Device{desired(tank(), "22"), other})
		h.pass(time.Second)
		require.Empty(t, h.driver.Writes(other.ID), "who knows what was dealt with")
	})
}

func TestADesireThatIsRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"101", "above the maximum 100"},
		{"warm", "not a finite number"},
	} {
		inBubble(t, desired(tank(), c.text), nil, func(t *testing.T, h *harness) {
			h.start()
			require.Empty(t, h.written("setpoint"))
			require.Equal(t, []string{"desired rejected"}, h.story())
			require.Contains(t, h.results()[0].Reason, c.want)
			require.Len(t, h.m.Problems(), 1)
			require.ErrorContains(t, h.m.Problems()[0], c.want)
			require.NotEmpty(t, h.m.Problems()[0].Remedy)
			h.restart()
			require.Len(t, h.story(), 1, "said once")
			require.Len(t, h.m.Problems(), 1, "and a problem as long as it stands")
			wider := desired(tank(), c.text)
			wider.Properties[0].Maximum = twin.Value{}
			h.source.Set([]twin.Device{wider})
			h.pass(time.Second)
			require.Equal(t, c.text == "101", len(h.written("setpoint")) == 1, "a mended declaration makes it a desire again")
			h.source.Set([]twin.Device{tank()})
			h.pass(time.Second)
			require.Empty(t, h.m.Problems())
		})
	}
	readOnly := desired(tank(), "1")
	readOnly.Properties[0].Writable = false
	inBubble(t, readOnly, nil, func(t *testing.T, h *harness) {
		h.start()
		require.Contains(t, h.results()[0].Reason, "ReadOnly")
		require.Contains(t, h.m.Problems()[0].Remedy, "ReadWrite")
	})
	inBubble(t, desired(tank(), "1"), nil, func(t *testing.T, h *harness) {
		h.driver.Refuse(boiler, "setpoint")
		h.start()
		h.pass(10 * time.Minute)
		require.Len(t, h.written("setpoint"), 1, "what the device refuses is not tried again")
		require.Equal(t, []string{"desired rejected"}, h.story())
	})
}

func TestAValueTheDeviceDoesNotShow(t *testing.T) {
	pulse := func(h *harness, _ *mapper.Config) {
		h.driver.WriteFn = func(_ context.Context, _ twin.DeviceID, _ string, v twin.Value) (twin.Value, error) { return v, nil }
	}
	inBubble(t, desired(tank(), "7"), pulse, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Hour)
		require.Len(t, h.written("setpoint"), 3, "a register that resets itself is not written for ever")
		require.Equal(t, []string{"desired timed-out"}, h.story())
		h.restart()
		h.pass(time.Minute)
		require.Len(t, h.written("setpoint"), 3)
	})
	slow := func(h *harness, _ *mapper.Config) {
		h.driver.WriteFn = func(_ context.Context, id twin.DeviceID, p string, v twin.Value) (twin.Value, error) {
			time.AfterFunc(5*time.Second, func() { h.driver.Set(id, p, v) })
			return v, nil
		}
	}
	inBubble(t, desired(tank(), "7"), slow, func(t *testing.T, h *harness) {
		h.start()
		h.pass(8 * time.Second)
		require.Len(t, h.written("setpoint"), 1)
		require.Equal(t, []string{"desired applied"}, h.story(), "a device may take its time")
	})
	rounds := func(h *harness, _ *mapper.Config) {
		h.driver.WriteFn = func(_ context.Context, id twin.DeviceID, p string, _ twin.Value) (twin.Value, error) {
			h.driver.Set(id, p, twin.FloatValue(7.25))
			return twin.FloatValue(7.25), nil
		}
	}
	inBubble(t, desired(tank(), "7.3"), rounds, func(t *testing.T, h *harness) {
		h.start()
		require.Equal(t, []string{"desired applied"}, h.story(), "the nearest the device can hold")
		require.Equal(t, twin.FloatValue(7.25), h.results()[0].Value)
	})
}

func TestWritesThatPanicOrReturnNonsense(t *testing.T) {
	inBubble(t, desired(tank(), "7"), func(h *harness, _ *mapper.Config) {
		h.driver.WriteFn = func(_ context.Context, id twin.DeviceID, p string, v twin.Value) (twin.Value, error) {
			if len(h.driver.Writes(id)) == 1 {
				panic("boom")
			}
			h.driver.Set(id, p, v)
			return twin.StringValue("ok"), nil
		}
	}, func(t *testing.T, h *harness) {
		h.start()
		h.pass(2 * time.Second)
		s := h.m.Stats()
		require.Equal(t, [2]uint64{1, 1}, [2]uint64{s.Panics, s.DriverFaults})
		require.Equal(t, []string{"desired applied"}, h.story())
	})
}

func TestANewerValueSupersedes(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.source.Set([]twin.Device{desired(tank(), "10")})
		h.pass(5 * time.Second)
		h.source.Set([]twin.Device{desired(tank(), "20")})
		h.pass(0)
		h.driver.Mend(boiler)
		h.pass(time.Minute)
		require.Equal(t, []string{"desired superseded", "desired applied"}, h.story())
		require.Equal(t, twin.FloatValue(20), h.driver.Get(boiler, "setpoint"))
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.source.Set([]twin.Device{desired(tank(), "30")})
		h.pass(time.Second)
		h.source.Set([]twin.Device{tank()})
		h.pass(time.Second)
		h.driver.Mend(boiler)
		h.pass(time.Minute)
		require.Equal(t, twin.FloatValue(20), h.driver.Get(boiler, "setpoint"), "a desire that is taken back is not written")
		require.Zero(t, h.m.Stats().Writes[twin.Pending])
	})
}

func claim(id string, value twin.Value, source string, priority int, ttl time.Duration) twin.Command {
	return twin.Command{ID: id, Property: "setpoint", Value: value, Source: source, Priority: priority, TTL: ttl}
}

func TestClaimsMeetInThePriorityArray(t *testing.T) {
	inBubble(t, desired(tank(), "20"), nil, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, 0))
		require.Equal(t, []string{"desired applied", "a1 pending", "a1 applied"}, h.story())
		h.command(boiler, claim("b1", twin.IntValue(60), "b", 3, 0))
		h.command(boiler, claim("c1", twin.IntValue(70), "c", 8, 0))
		require.Equal(t, []string{"b1 pending", "b1 applied", "c1 pending", "c1 superseded"}, h.story()[3:])
		require.Contains(t, h.results()[6].Reason, "claim of b at priority 3")
		h.command(boiler, claim("b2", twin.Value{}, "b", 0, 0))
		require.Equal(t, "b2 released", h.story()[7])
		require.Equal(t, twin.FloatValue(70), h.driver.Get(boiler, "setpoint"), "of one level the newest holds")
		h.command(boiler, claim("c2", twin.Value{}, "c", 0, 0))
		require.Equal(t, twin.FloatValue(50), h.driver.Get(boiler, "setpoint"))
		h.source.Set([]twin.Device{desired(tank(), "25")})
		h.pass(time.Second)
		require.Equal(t, twin.FloatValue(50), h.driver.Get(boiler, "setpoint"), "a claim holds against the cloud")
		h.command(boiler, claim("a2", twin.Value{}, "a", 0, 0))
		require.Equal(t, twin.FloatValue(25), h.driver.Get(boiler, "setpoint"), "in the end the cloud's holds")
		require.Equal(t, []string{"20", "50", "60", "70", "50", "25"}, h.written("setpoint"))
		h.command(boiler, claim("a3", twin.Value{}, "a", 0, 0))
		require.Equal(t, "a3 released", h.story()[len(h.story())-1], "a release without a claim is harmless")
		require.Len(t, h.m.Devices()[0].Writes, 1)
	})
}

func TestAClaimExpires(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, time.Minute))
		h.pass(59 * time.Second)
		require.Len(t, h.m.Devices()[0].Writes, 1)
		h.pass(2 * time.Second)
		require.Empty(t, h.m.Devices()[0].Writes)
		require.Equal(t, []string{"50"}, h.written("setpoint"), "where the cloud wants nothing, nothing is written")
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.command(boiler, claim("a2", twin.IntValue(60), "a", 8, 10*time.Second))
		h.pass(11 * time.Second)
		h.driver.Mend(boiler)
		h.pass(time.Minute)
		require.Equal(t, []string{"a2 pending", "a2 timed-out"}, h.story()[2:])
		require.Equal(t, twin.FloatValue(50), h.driver.Get(boiler, "setpoint"))
	})
}

func TestAClaimOnADeviceThatDoesNotAnswer(t *testing.T) {
	inBubble(t, desired(tank(), "20"), nil, func(t *testing.T, h *harness) {
		h.start()
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, 0))
		h.pass(40 * time.Second)
		require.Equal(t, "a1 timed-out", h.story()[2], "the one who asks gets an answer")
		h.driver.Mend(boiler)
		h.pass(2 * time.Second)
		require.Equal(t, twin.FloatValue(50), h.driver.Get(boiler, "setpoint"), "and the claim holds")
		require.Len(t, h.story(), 3, "an answer is final")
	})
}

func TestRenewingAClaimSparesTheDevice(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.start()
		for i := range 10 {
			h.command(boiler, claim(fmt.Sprint("a", i), twin.IntValue(50), "a", 8, time.Minute))
			h.pass(30 * time.Second)
		}
		require.Equal(t, []string{"50"}, h.written("setpoint"))
		require.Equal(t, "a9 applied", h.story()[19])
		h.driver.Set(boiler, "setpoint", twin.FloatValue(1))
		h.pass(2 * time.Second)
		h.command(boiler, claim("last", twin.IntValue(50), "a", 8, time.Minute))
		require.Equal(t, []string{"50", "50"}, h.written("setpoint"), "where the device has drifted it is written")
	})
}

func TestACommandDeliveredTwiceIsExecutedOnce(t *testing.T) {
	inBubble(t, tank(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("1", twin.IntValue(50), "a", 8, 0))
		h.command(boiler, claim("2", twin.IntValue(60), "a", 8, 0))
		h.command(boiler, claim("1", twin.IntValue(50), "a", 8, 0))
		require.Equal(t, []string{"50", "60"}, h.written("setpoint"))
		require.Equal(t, []string{"1 pending", "1 applied", "2 pending", "2 applied", "1 applied"}, h.story())
		h.command(boiler, claim("1", twin.IntValue(70), "b", 8, 0))
		require.Len(t, h.written("setpoint"), 3, "ids of different sources are different")
		for i := range 300 {
			h.command(boiler, claim(fmt.Sprint("x", i), twin.Value{}, "c", 8, 0))
		}
		h.command(boiler, claim("2", twin.IntValue(80), "b", 8, 0))
		require.Len(t, h.written("setpoint"), 4, "the window is bounded")
	})
}

func TestCommandsThatAreRefused(t *testing.T) {
	readOnly := property("level", twin.TypeInt, time.Second)
	inBubble(t, device(setpoint(), readOnly), nil, func(t *testing.T, h *harness) {
		h.start()
		for _, c := range []struct{ property, want string }{{"nothing", "no such property"}, {"level", "ReadOnly"}, {"setpoint", "above the maximum"}} {
			h.command(boiler, twin.Command{ID: c.property, Property: c.property, Value: twin.IntValue(500), Source: "a"})
			r := h.results()[len(h.results())-1]
			require.Equal(t, twin.Rejected, r.State)
			require.Contains(t, r.Reason, c.want)
		}
		n := len(h.results())
		require.NoError(t, h.bus.Publish(t.Context(), twin.CommandTopic(boiler), []byte(`{"id":`)))
		require.NoError(t, h.bus.Publish(t.Context(), "twinline/command/No/Name", []byte(`{"id":`)))
		h.command(twin.DeviceID{Namespace: "default", Name: "of-others"}, claim("x", twin.IntValue(1), "a", 0, 0))
		require.Len(t, h.results(), n)
		s := h.m.Stats()
		require.Equal(t, [2]uint64{3, 1}, [2]uint64{s.CommandsRefused, s.Malformed})
		require.Empty(t, h.driver.Writes(boiler))

		h.driver.Refuse(boiler, "setpoint")
		h.command(boiler, claim("r", twin.IntValue(1), "a", 8, 0))
		require.Equal(t, []string{"r pending", "r rejected"}, h.story()[n:])
		require.Empty(t, h.m.Devices()[0].Writes, "a claim the device refuses is no claim")
	})
}

func TestThereIsABoundOnClaims(t *testing.T) {
	inBubble(t, desired(tank(), "1"), nil, func(t *testing.T, h *harness) {
		h.start()
		for i := range 64 {
			h.command(boiler, claim("1", twin.IntValue(50), fmt.Sprint("s", i), 8, 0))
		}
		require.Zero(t, h.m.Stats().CommandsRefused)
		h.command(boiler, claim("1", twin.IntValue(50), "one-more", 8, 0))
		require.Equal(t, uint64(1), h.m.Stats().CommandsRefused)
		h.command(boiler, claim("2", twin.IntValue(60), "s0", 8, 0))
		require.Equal(t, uint64(1), h.m.Stats().CommandsRefused, "who has a claim may change it")
	})
}

func TestAClaimEndsWithTheMapperAndTheCloudHoldsAgain(t *testing.T) {
	inBubble(t, desired(tank(), "20"), nil, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, 0))
		record, _ := h.store.LastDesired(boiler)
		require.Empty(t, record, "the desired value is not what the device has")
		h.restart()
		h.pass(time.Second)
		require.Equal(t, []string{"20", "50", "20"}, h.written("setpoint"))
		h.driver.Refuse(boiler, "setpoint")
		h.command(boiler, claim("a2", twin.IntValue(50), "a", 8, 0))
		record, _ = h.store.LastDesired(boiler)
		require.Equal(t, map[string]string{"setpoint": "20"}, record, "a claim the device refused changed nothing")
	})
}

func TestTheRecordIsTakenBackBeforeAClaimIsWritten(t *testing.T) {
	inBubble(t, desired(tank(), "20"), func(h *harness, _ *mapper.Config) {
		h.driver.WriteFn = func(_ context.Context, id twin.DeviceID, p string, v twin.Value) (twin.Value, error) {
			record, err := h.store.LastDesired(id)
			if len(record) > 0 || err != nil {
				t.Errorf("a crash now would leave %s on the device, and the record says %v", v, record)
			}
			h.driver.Set(id, p, v)
			return v, nil
		}
	}, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, 0))
		require.Equal(t, []string{"20", "50"}, h.written("setpoint"))
	})
}

func TestClaimsOutliveAChangeOfTheDeclaration(t *testing.T) {
	inBubble(t, desired(tank(), "20"), nil, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, 0))
		changed := desired(tank(), "20")
		changed.Properties[0].CollectCycle = 2 * time.Second
		h.source.Set([]twin.Device{changed})
		h.pass(10 * time.Second)
		require.Equal(t, []string{"20", "50"}, h.written("setpoint"))
		narrow := desired(tank(), "20")
		narrow.Properties[0].Maximum = twin.IntValue(40)
		h.source.Set([]twin.Device{narrow})
		h.pass(10 * time.Second)
		require.Equal(t, []string{"20", "50", "20"}, h.written("setpoint"), "a claim that is not allowed any more ends")
		h.driver.Break(boiler, &mapper.Fault{Why: "timeout"})
		h.command(boiler, claim("a2", twin.IntValue(30), "a", 8, 0))
		h.source.Set([]twin.Device{device(property("other", twin.TypeInt, time.Second))})
		h.pass(time.Second)
		require.Equal(t, "a2 rejected", h.story()[len(h.story())-1])
	})
}

func TestAHigherClaimInterruptsAReadBack(t *testing.T) {
	inBubble(t, tank(), func(h *harness, _ *mapper.Config) {
		h.driver.WriteFn = func(_ context.Context, id twin.DeviceID, p string, v twin.Value) (twin.Value, error) {
			if !v.Equal(twin.IntValue(50)) { // 50 is never shown
				h.driver.Set(id, p, v)
			}
			return v, nil
		}
	}, func(t *testing.T, h *harness) {
		h.start()
		h.command(boiler, claim("a1", twin.IntValue(50), "a", 8, 0))
		h.pass(time.Second)
		before := time.Now()
		h.command(boiler, claim("b1", twin.IntValue(60), "b", 1, 0))
		require.Equal(t, []string{"a1 pending", "b1 pending", "a1 superseded", "b1 applied"}, h.story())
		require.Equal(t, before, time.Now(), "at once")
	})
}

func TestResultsWaitForTheBroker(t *testing.T) {
	inBubble(t, desired(tank(), "20"), nil, func(t *testing.T, h *harness) {
		h.bus.Break()
		h.start()
		h.pass(time.Minute)
		require.Equal(t, []string{"20"}, h.written("setpoint"), "a write needs no broker")
		h.bus.Mend()
		h.pass(time.Second)
		require.Equal(t, []string{"desired applied"}, h.story())
	})
}
