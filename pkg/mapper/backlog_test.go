package mapper_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

func counter() twin.Device { return device(property("count", twin.TypeInt, time.Second)) }

func seqs(samples []twin.Sample) []uint64 {
	var out []uint64
	for _, s := range samples {
		out = append(out, s.Seq)
	}
	return out
}

func numbers(from, to uint64) []uint64 {
	var out []uint64
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

func TestWithoutAConsumerTheBrokerIsEnough(t *testing.T) {
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(time.Hour)
		require.Equal(t, numbers(1, 3600), seqs(h.samples(boiler)), "nothing is sent twice")
		require.Zero(t, h.m.Stats().Unconfirmed)
	})
}

func TestAnOutageOfTheBrokerBlocksNoPollAndLosesNothing(t *testing.T) {
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(10 * time.Second)
		h.bus.Break()
		h.pass(5 * time.Minute)
		require.Len(t, h.samples(boiler), 10)
		require.Equal(t, 300, h.m.Stats().Unconfirmed)
		h.bus.Mend()
		h.pass(time.Second)
		require.Equal(t, numbers(1, 311), seqs(h.samples(boiler)))
		require.Zero(t, h.m.Stats().Dropped)
	})
}

func TestWhatWasNotConfirmedIsSentAgain(t *testing.T) {
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.pass(2 * time.Second)
		h.bus.BreakConfirms()
		h.pass(3 * time.Second) // the broker has 3, and we do not know
		h.bus.Mend()
		h.pass(time.Second)
		require.Equal(t, []uint64{1, 2, 3, 3, 4, 5, 6}, seqs(h.samples(boiler)))
	})
}

func TestTheRingDropsTheOldestAndCounts(t *testing.T) {
	inBubble(t, counter(), func(_ *harness, c *mapper.Config) { c.BacklogSamples = 5 }, func(t *testing.T, h *harness) {
		h.bus.Break()
		h.start()
		h.pass(5 * time.Second)
		require.Zero(t, h.m.Stats().Dropped, "at the bound")
		h.pass(3 * time.Second)
		require.Equal(t, uint64(3), h.m.Stats().Dropped)
		require.Equal(t, uint64(3), h.m.Devices()[0].Dropped)
		require.Equal(t, 5, h.m.Devices()[0].Unconfirmed)
		h.bus.Mend()
		h.pass(0)
		got := seqs(h.samples(boiler))
		require.Equal(t, []uint64{1, 5, 6, 7, 8}, got, "the newest are kept, in order, and the one that was on its way")
	})
}

func TestTheBoundForAllIsTakenFromWhoHoldsMost(t *testing.T) {
	rare := device(property("count", twin.TypeInt, 100*time.Second))
	rare.ID.Name = "rare"
	inBubble(t, counter(), func(_ *harness, c *mapper.Config) { c.BacklogBytes = 4000 }, func(t *testing.T, h *harness) {
		h.driver.Set(rare.ID, "count", twin.IntValue(1))
		h.source.Set([]twin.Device{counter(), rare})
		h.bus.Break()
		h.start()
		h.pass(500 * time.Second)
		s := h.m.Stats()
		require.LessOrEqual(t, s.UnconfirmedBytes, 4000)
		require.Greater(t, s.UnconfirmedBytes, 3700)
		require.Positive(t, h.m.Devices()[0].Dropped)
		require.Zero(t, h.m.Devices()[1].Dropped, "a quiet device loses nothing to a loud one")
	})
}

func TestAcknowledgementsFreeSamplesAndTheirAbsenceResends(t *testing.T) {
	inBubble(t, counter(), func(_ *harness, c *mapper.Config) { c.AckTimeout = 9500 * time.Millisecond }, func(t *testing.T, h *harness) {
		h.start()
		h.pass(4 * time.Second)
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: 1, Seq: 4}})
		h.pass(6 * time.Second)
		require.Equal(t, 6, h.m.Stats().Unconfirmed, "from now on the broker is not enough")
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: 1, Seq: 8}, {Namespace: "other", Name: "node"}: {Epoch: 9, Seq: 9}})
		require.Equal(t, 2, h.m.Stats().Unconfirmed)
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: 1, Seq: 3}})
		require.Equal(t, 2, h.m.Stats().Unconfirmed, "an old acknowledgement changes nothing")

		h.pass(8500 * time.Millisecond) // more than 9.5 s after sample 9
		got := seqs(h.samples(boiler))
		again := got[18:]
		require.Equal(t, numbers(9, 18), again[:10], "what is not acknowledged is sent again, in order")
		require.Equal(t, uint64(10), h.m.Stats().Resent)
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: 1, Seq: h.m.Devices()[0].Seq}})
		require.Zero(t, h.m.Stats().Unconfirmed)
	})
}

func TestResendingToADeadConsumerSlowsDownAndEnds(t *testing.T) {
	inBubble(t, device(property("count", twin.TypeInt, time.Hour)), nil, func(t *testing.T, h *harness) {
		h.start()
		h.ack(nil)
		h.pass(time.Minute)
		require.Len(t, h.samples(boiler), 1+2, "after 10 s and after 20 s more")
		h.pass(14 * time.Minute)
		n := len(h.samples(boiler))
		require.InDelta(t, 3+14, n, 2, "once a minute")
		h.pass(30 * time.Minute)
		require.InDelta(t, n, len(h.samples(boiler)), 1, "nobody is there any more")
		n = len(h.samples(boiler))
		h.ack(nil)
		require.Len(t, h.samples(boiler), n+1, "its first word brings it all again")
	})
}

func TestAStopSendsWhatIsQueued(t *testing.T) {
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		h.bus.Break()
		h.start()
		h.pass(5 * time.Second)
		time.AfterFunc(time.Second, h.bus.Mend)
		h.m.Stop()
		require.Equal(t, numbers(1, 5), seqs(h.samples(boiler)))
		h.bus.Break()
		h.start()
		h.pass(5 * time.Second)
		before := time.Now()
		h.m.Stop()
		require.LessOrEqual(t, time.Since(before), 3*time.Second, "and does not wait for a broker that is away")
		h.bus.Mend()
	})
}

func TestALostEpochIsFoundAgain(t *testing.T) {
	inBubble(t, counter(), func(_ *harness, c *mapper.Config) { c.Store = nil }, func(t *testing.T, h *harness) {
		h.start()
		h.pass(3 * time.Second)
		known := h.m.Devices()[0].Epoch + 6
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: known, Seq: 500}}) // of an earlier life
		h.pass(2 * time.Second)
		samples := h.samples(boiler)
		require.Equal(t, known+1, samples[len(samples)-1].Epoch)
		require.Equal(t, []uint64{1, 2, 3, 1, 2}, seqs(samples))
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: known + 1, Seq: 2}})
		require.Zero(t, h.m.Stats().Unconfirmed)
		h.bus.Break()
		h.pass(3 * time.Second)
		h.bus.Mend()
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: ^uint64(0), Seq: 1}})
		h.pass(time.Second)
		require.Equal(t, known+1, h.m.Devices()[0].Epoch, "an absurd one is ignored")
	})
}

func TestQueuedSamplesAreNumberedAnew(t *testing.T) {
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		h.start()
		h.ack(nil)
		h.pass(3 * time.Second)
		h.ack(map[twin.DeviceID]twin.Position{boiler: {Epoch: 1, Seq: 900}})
		samples := h.samples(boiler)[3:]
		require.Equal(t, numbers(1, 3), seqs(samples))
		for i, s := range samples {
			require.Equal(t, uint64(2), s.Epoch)
			require.Equal(t, h.samples(boiler)[i].Time, s.Time)
		}
	})
}

func TestMalformedAcksAreCounted(t *testing.T) {
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		h.start()
		for _, p := range []string{`{`, `{"acks":{"nobody":{}}}`, strings.Repeat(" ", 5<<20)} {
			require.NoError(t, h.bus.Publish(t.Context(), twin.AckTopic("x"), []byte(p)))
		}
		require.Equal(t, uint64(3), h.m.Stats().Malformed)
	})
}

func TestASampleTooLargeForTheWireIsDroppedAndCounted(t *testing.T) {
	var props []twin.Property
	for _, n := range strings.Split("abcdefghijklmnopqr", "") {
		props = append(props, property(n, twin.TypeString, time.Second))
	}
	inBubble(t, device(props...), nil, func(t *testing.T, h *harness) {
		long := twin.StringValue(strings.Repeat("x", twin.MaxStringValue))
		for _, p := range props {
			h.driver.Set(boiler, p.Name, long)
		}
		h.start()
		h.pass(time.Second)
		require.Equal(t, uint64(1), h.m.Stats().Dropped)
		for _, p := range props {
			h.driver.Set(boiler, p.Name, twin.StringValue("short"))
		}
		h.pass(time.Second)
		require.Equal(t, []uint64{2}, seqs(h.samples(boiler)), "the hole shows")
	})
}

func TestNoAcknowledgedSampleIsLostAndNoneIsDoubled(t *testing.T) {
	// An uplink that loses one in fifty messages and acknowledges what it has
	// without a hole, through outages of the broker.
	inBubble(t, counter(), nil, func(t *testing.T, h *harness) {
		var have, count uint64
		_, err := h.bus.Subscribe(twin.AllTelemetry, func(_ string, payload []byte) {
			var s twin.Sample
			require.NoError(t, s.UnmarshalJSON(payload))
			if count++; count%50 == 0 || s.Seq != have+1 {
				return
			}
			have = s.Seq
			b, err := json.Marshal(twin.Ack{Acks: map[twin.DeviceID]twin.Position{boiler: {Epoch: s.Epoch, Seq: have}}})
			require.NoError(t, err)
			require.NoError(t, h.bus.Publish(t.Context(), twin.AckTopic("uplink"), b))
		})
		require.NoError(t, err)
		h.start()
		for range 5 {
			h.pass(20 * time.Second)
			h.bus.Break()
			h.pass(20 * time.Second)
			h.bus.Mend()
		}
		h.pass(5 * time.Minute)
		s := h.m.Stats()
		require.Zero(t, s.Dropped)
		require.InDelta(t, float64(h.m.Devices()[0].Seq), float64(have), 40, "the consumer is at the end, but for one resend")
	})
}
