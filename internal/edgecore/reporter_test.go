package edgecore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/bus/bustest"
	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

var _ mapper.Twins = (*edgecore.Reporter)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a reporter and its EdgeCore.
type bench struct {
	*edge
	*edgecore.Reporter
	reg *prometheus.Registry
}

func newBench(seed uint64, cfg edgecore.Config) (*bench, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	memory := bustest.NewMemory()
	b := &bench{edge: newEdge(ctx, memory, seed), reg: prometheus.NewRegistry()}
	b.slowness = 20 * time.Millisecond
	cfg.Bus, cfg.Registry = memory, b.reg
	b.Reporter = edgecore.NewReporter(cfg)
	if err := b.Start(ctx); err != nil {
		panic(err)
	}
	return b, func() {
		b.Stop()
		cancel()
		b.wg.Wait()
		memory.Close()
	}
}

// run runs f in a bubble with a reporter on an EdgeCore that knows the boiler.
func run(t *testing.T, cfg edgecore.Config, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, end := newBench(1, cfg)
		defer end()
		b.addMember(boiler, false)
		f(t, b)
		require.Empty(t, b.broken)
	})
}

func device(id twin.DeviceID, cycle time.Duration, names ...string) *twin.Device {
	d := &twin.Device{ID: id}
	for _, n := range names {
		typ := twin.TypeInt
		if strings.HasPrefix(n, "s") {
			typ = twin.TypeString
		}
		d.Properties = append(d.Properties, twin.Property{Name: n, Type: typ, ReportCycle: cycle, ReportToCloud: true})
	}
	return d
}

func ints(pairs ...any) []twin.Reading {
	var readings []twin.Reading
	for i := 0; i < len(pairs); i += 2 {
		readings = append(readings, twin.Reading{Property: pairs[i].(string), Value: twin.IntValue(int64(pairs[i+1].(int)))})
	}
	return readings
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func TestReporterKeepsTheServiceContract(t *testing.T) {
	memory := bustest.NewMemory()
	defer memory.Close()
	servicetest.Stress(t, edgecore.NewReporter(edgecore.Config{Bus: memory}))
}

func TestAllPropertiesGoInOneMessageTwice(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.Report(device(boiler, time.Second, "a", "b", "c"), ints("a", 1, "b", 2, "c", 3))
		pass(5 * time.Second)
		twins, _ := b.requests(boiler)
		require.Len(t, twins, 2, "the first report is sent twice")
		for _, r := range twins {
			require.Len(t, r.names, 3)
		}
		require.Equal(t, "2", b.cloudValue(boiler, "b"))
	})
}

func TestEqualValuesAreNotSentAgain(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		d := device(boiler, time.Second, "a", "b")
		for range 60 {
			b.Report(d, ints("a", 1, "b", 2))
			pass(time.Second)
		}
		twins, _ := b.requests(boiler)
		require.Len(t, twins, 2)
		b.Report(d, ints("a", 1, "b", 3))
		pass(time.Second)
		twins, _ = b.requests(boiler)
		require.Equal(t, []string{"b"}, twins[2].names, "only what changed")
	})
}

// A change that comes between an answer and the least gap after it must not wait
// for the next thing that happens to wake the reporter.
func TestAChangeRightAfterAnAnswerIsSentSoon(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		d := device(boiler, 10*time.Millisecond, "a")
		b.Report(d, ints("a", 1))
		pass(30 * time.Second) // both first reports, and quiet
		b.Report(d, ints("a", 2))
		for b.cloudValue(boiler, "a") != "2" { // the answer is under way or has just come
			pass(time.Millisecond)
		}
		pass(30 * time.Millisecond)
		b.Report(d, ints("a", 3))
		pass(time.Second)
		require.Equal(t, "3", b.cloudValue(boiler, "a"))
	})
}

func TestReportCycleIsTheLeastInterval(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		d := device(boiler, time.Second, "fast")
		d.Properties = append(d.Properties, twin.Property{Name: "slow", Type: twin.TypeInt, ReportCycle: 10 * time.Second, ReportToCloud: true},
			twin.Property{Name: "local", Type: twin.TypeInt, ReportCycle: time.Second})
		const seconds = 100
		for i := range seconds {
			b.Report(d, ints("fast", i, "slow", i, "local", i))
			pass(time.Second)
		}
		count := map[string]int{}
		twins, _ := b.requests(boiler)
		for _, r := range twins {
			for _, n := range r.names {
				count[n]++
			}
		}
		require.InDelta(t, seconds, count["fast"], 5)
		require.InDelta(t, seconds/10, count["slow"], 2)
		require.Zero(t, count["local"], "ReportToCloud is false")
	})
}

func TestOneMessageInFlightPerDevice(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.set(func() { b.slowness = 3 * time.Second })
		d := device(boiler, time.Millisecond, "a")
		for i := range 1000 {
			b.Report(d, ints("a", i))
			pass(100 * time.Millisecond)
		}
		pass(20 * time.Second)
		require.Equal(t, "999", b.value(boiler, "a"))
		require.Equal(t, "999", b.cloudValue(boiler, "a"))
		b.set(func() { require.Zero(t, b.mixed) })
	})
}

func TestTheBudgetIsKeptAndShared(t *testing.T) {
	run(t, edgecore.Config{Rate: 10}, func(t *testing.T, b *bench) {
		const devices, seconds = 50, 60
		var all []*twin.Device
		for i := range devices {
			d := device(twin.DeviceID{Namespace: "plant", Name: fmt.Sprint("d", i)}, 100*time.Millisecond, "a")
			b.addMember(d.ID, false)
			all = append(all, d)
		}
		began := time.Now()
		for i := range seconds * 10 {
			for _, d := range all {
				b.Report(d, ints("a", i))
			}
			pass(100 * time.Millisecond)
		}
		total, least, most := 0, 1<<30, 0
		for _, d := range all {
			twins, _ := b.requests(d.ID)
			total += len(twins)
			least, most = min(least, len(twins)), max(most, len(twins))
		}
		budget := int(10 * time.Since(began).Seconds())
		require.LessOrEqual(t, total, budget+5)
		require.GreaterOrEqual(t, total, budget*9/10, "the budget is used")
		require.LessOrEqual(t, most-least, 1, "in turns")
		pass(time.Minute)
		for _, d := range all {
			require.Equal(t, fmt.Sprint(seconds*10-1), b.value(d.ID, "a"), "the latest wins")
		}
	})
}

// A large node has not the budget to tell all in five minutes; changes still find their share.
func TestRepeatsLeaveRoomForChanges(t *testing.T) {
	run(t, edgecore.Config{Rate: 5, Reannounce: time.Minute}, func(t *testing.T, b *bench) {
		var all []*twin.Device
		for i := range 500 {
			d := device(twin.DeviceID{Namespace: "plant", Name: fmt.Sprint("d", i)}, time.Second, "a")
			b.addMember(d.ID, false)
			all = append(all, d)
			b.Report(d, ints("a", 0))
			b.State(d, twin.Online)
		}
		pass(10 * time.Minute)
		var worst time.Duration
		for i := range 30 {
			changed := time.Now()
			b.Report(all[i], ints("a", i+1))
			for b.value(all[i].ID, "a") != fmt.Sprint(i+1) {
				pass(100 * time.Millisecond)
			}
			worst = max(worst, time.Since(changed))
		}
		require.Less(t, worst, 20*time.Second)
	})
}

func TestBadReadingsAreLeftOut(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Minute}, func(t *testing.T, b *bench) {
		d := device(boiler, time.Second, "a", "b")
		b.Report(d, ints("a", 1, "b", 2))
		pass(5 * time.Second)
		b.Report(d, []twin.Reading{twin.BadReading("a", "timeout"), {Property: "b", Value: twin.IntValue(3)}})
		pass(5 * time.Minute)
		twins, _ := b.requests(boiler)
		for _, r := range twins[2:] {
			require.Equal(t, []string{"b"}, r.names, "a keeps its value and its age")
		}
		require.Equal(t, "1", b.value(boiler, "a"))
		n := len(twins)
		b.Report(d, ints("a", 1))
		pass(2 * time.Second)
		twins, _ = b.requests(boiler)
		require.Equal(t, []string{"a"}, twins[n].names, "good again is news, though equal")
	})
}

func TestUnfitValuesAreReportedAsProblems(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		d := device(boiler, time.Second, "s1", "a")
		b.Report(d, []twin.Reading{
			{Property: "s1", Value: twin.StringValue(strings.Repeat("x", edgecore.MaxValue+1))},
			{Property: "a", Value: twin.UintValue(1 << 63)},
		})
		pass(5 * time.Second)
		require.Len(t, b.Problems(), 2)
		require.Equal(t, 2.0, total(t, b.reg, "twinline_twin_unfit_values_total"))
		b.Report(d, []twin.Reading{
			{Property: "s1", Value: twin.StringValue("20 °C")},
			{Property: "a", Value: twin.IntValue(1)},
		})
		pass(5 * time.Second)
		require.Empty(t, b.Problems())
		require.Equal(t, "20 °C", edgecore.Decode(b.cloudValue(boiler, "s1")))
	})
}

func TestNamesThatEdgeCoreRefusesDoNotBlockOthers(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.Report(device(boiler, time.Second, "a b", strings.Repeat("x", 129), "good"), ints("a b", 1, strings.Repeat("x", 129), 2, "good", 3))
		pass(5 * time.Second)
		require.Equal(t, "3", b.cloudValue(boiler, "good"))
		require.Len(t, b.Problems(), 2)
		lost := twin.DeviceID{Namespace: "dev", Name: "x"}
		b.Report(device(lost, time.Second, "a"), ints("a", 1))
		pass(5 * time.Second)
		require.Len(t, b.Problems(), 3)
		twins, _ := b.requests(lost)
		require.Empty(t, twins)
	})
}

// The type of a property has changed in the model: EdgeCore refuses messages with it until it is removed
// from its twin. The others go on meanwhile.
func TestOneRefusedPropertyDoesNotBlockOthers(t *testing.T) {
	for _, n := range []int{1, 2, 7, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
				d := device(boiler, time.Second)
				var readings []twin.Reading
				old := map[string]shown{}
				for i := range n {
					name := fmt.Sprint("s", i)
					d.Properties = append(d.Properties, twin.Property{Name: name, Type: twin.TypeString, ReportCycle: time.Second, ReportToCloud: true})
					readings = append(readings, twin.Reading{Property: name, Value: twin.StringValue("hello")})
					if i%3 == 0 {
						old[name] = shown{"1", "int"}
					}
				}
				b.set(func() { b.twins[boiler.String()] = old })
				b.Report(d, readings)
				pass(2 * time.Minute)
				for i := range n {
					require.Equal(t, "hello", b.value(boiler, fmt.Sprint("s", i)), i)
					require.Equal(t, "hello", b.cloudValue(boiler, fmt.Sprint("s", i)), i)
				}
				require.Empty(t, b.Problems())
			})
		})
	}
}

// EdgeCore refuses and goes on refusing: it is asked rarely, and said once.
func TestWhatIsRefusedForGoodIsAskedRarely(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.set(func() { b.fail[boiler.String()] = 400 })
		d := device(boiler, time.Second, "a", "b", "c")
		for i := range 600 {
			b.Report(d, ints("a", i, "b", i, "c", i))
			pass(time.Second)
		}
		twins, _ := b.requests(boiler)
		require.Less(t, len(twins), 40, "of 600")
		require.Len(t, b.Problems(), 3)
		b.set(func() { delete(b.fail, boiler.String()) })
		pass(7 * time.Minute)
		require.Empty(t, b.Problems())
		require.Equal(t, "599", b.value(boiler, "c"))
	})
}

func TestAnUnknownDeviceIsAskedRarelyAndHealsAtOnce(t *testing.T) {
	for _, tell := range []bool{true, false} {
		t.Run(fmt.Sprint("told ", tell), func(t *testing.T) {
			run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
				b.dropMember(boiler)
				d := device(boiler, time.Second, "a")
				b.State(d, twin.Online)
				for i := range 600 {
					b.Report(d, ints("a", i))
					pass(time.Second)
				}
				twins, states := b.requests(boiler)
				require.Less(t, len(twins), 15)
				require.Less(t, len(states), 5)
				require.Equal(t, 1, b.Reporter.Stats().Absent)
				n, err := testutil.GatherAndCount(b.reg, "twinline_twin_unknown_device")
				require.NoError(t, err)
				require.Equal(t, 1, n)
				b.addMember(boiler, tell)
				if tell {
					pass(5 * time.Second)
				} else {
					pass(6 * time.Minute)
				}
				require.Equal(t, "599", b.cloudValue(boiler, "a"))
				require.Equal(t, "online", b.cloudSt[boiler.String()])
				n, err = testutil.GatherAndCount(b.reg, "twinline_twin_unknown_device")
				require.NoError(t, err)
				require.Zero(t, n)
			})
		})
	}
}

func TestSilenceIsMetWithPatience(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.set(func() { b.away = true })
		d := device(boiler, time.Second, "a")
		for i := range 1800 {
			b.Report(d, ints("a", i))
			pass(time.Second)
		}
		twins, _ := b.requests(boiler)
		require.Empty(t, twins)
		sent := total(t, b.reg, "twinline_twin_messages_total")
		require.Less(t, sent, 60.0)
		b.set(func() { b.away = false })
		pass(90 * time.Second)
		require.Equal(t, "1799", b.cloudValue(boiler, "a"))
	})
}

func TestInternalErrorsAreTriedAgain(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.set(func() { b.fail[boiler.String()] = 500 })
		b.Report(device(boiler, time.Hour, "a"), ints("a", 1))
		pass(10 * time.Second)
		b.set(func() { delete(b.fail, boiler.String()) })
		pass(time.Minute)
		require.Equal(t, "1", b.value(boiler, "a"), "the report cycle does not delay a repetition")
	})
}

func TestStateIsRepeated(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		d := device(boiler, time.Second, "a")
		d.StateReportCycle = 10 * time.Second
		b.State(d, twin.Online)
		pass(100 * time.Second)
		_, states := b.requests(boiler)
		require.InDelta(t, 11, len(states), 2)
		b.State(d, twin.Offline)
		pass(time.Second)
		require.Equal(t, "offline", b.cloudSt[boiler.String()])
	})
}

func TestEverythingIsToldAgainWhenTheLinkReturns(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		b.set(func() { b.link = false })
		d := device(boiler, 10*time.Minute, "a", "b")
		b.Report(d, ints("a", 1, "b", 2))
		b.State(d, twin.Online)
		pass(5 * time.Minute)
		require.Empty(t, b.cloudValue(boiler, "a"))
		b.set(func() { b.link = true })
		b.LinkUp()
		pass(10 * time.Second)
		require.Equal(t, "1", b.cloudValue(boiler, "a"), "at once, the report cycle notwithstanding")
		require.Equal(t, "2", b.cloudValue(boiler, "b"))
		require.Equal(t, "online", b.cloudSt[boiler.String()])
	})
}

func TestTheLinkTopicTellsThatTheLinkReturned(t *testing.T) {
	run(t, edgecore.Config{Node: "edge-1", Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		tell := func(up bool, at time.Duration) {
			payload, err := json.Marshal(twin.LinkState{Node: "edge-1", Up: up, Since: since.Add(at)})
			require.NoError(t, err)
			require.NoError(t, b.bus.Publish(t.Context(), twin.LinkTopic("edge-1"), payload))
			pass(10 * time.Second)
		}
		sent := func() int { twins, _ := b.requests(boiler); return len(twins) }
		b.Report(device(boiler, 10*time.Minute, "a"), ints("a", 1))
		tell(true, 0)
		before := sent()
		tell(true, 0) // the same, as after a reconnect of the broker
		require.Equal(t, before, sent())
		tell(false, time.Minute)
		require.Equal(t, before, sent())
		tell(true, 2*time.Minute)
		require.Equal(t, before+2, sent(), "twice, as any first report")
		tell(true, 4*time.Minute) // an outage nobody told of
		require.Equal(t, before+4, sent())
		require.NoError(t, b.bus.Publish(t.Context(), twin.LinkTopic("edge-1"), []byte("{")))
		pass(time.Second)
		require.Equal(t, 1.0, total(t, b.reg, "twinline_twin_odd_messages_total"))
	})
}

func TestEverythingIsToldAgainAfterTheBrokerReturns(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		d := device(boiler, time.Second, "a")
		b.bus.SetUp(false)
		b.bus.SetUp(true) // the first connect
		b.Report(d, ints("a", 1))
		pass(5 * time.Second)
		b.bus.SetUp(false)
		b.set(func() { b.away = true; delete(b.twins, boiler.String()) })
		b.Report(d, ints("a", 2))
		pass(time.Minute)
		b.bus.SetUp(true)
		pass(5 * time.Second)
		b.set(func() { b.away = false }) // EdgeCore comes back later than we
		pass(20 * time.Second)
		require.Equal(t, "2", b.value(boiler, "a"))
	})
}

func TestManyPropertiesAreSplit(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		var largest int
		_, err := b.bus.Subscribe("$hw/events/device/+/+/twin/update", func(_ string, payload []byte) { largest = max(largest, len(payload)) })
		require.NoError(t, err)
		d := device(boiler, time.Second)
		var readings []twin.Reading
		for i := range 300 {
			name := fmt.Sprintf("s%04d%s", i, strings.Repeat("n", edgecore.MaxName-5))
			d.Properties = append(d.Properties, twin.Property{Name: name, Type: twin.TypeString, ReportCycle: time.Second, ReportToCloud: true})
			readings = append(readings, twin.Reading{Property: name, Value: twin.StringValue(strings.Repeat("v", edgecore.MaxValue))})
		}
		b.Report(d, readings)
		pass(time.Minute)
		require.LessOrEqual(t, largest, edgecore.MaxUpdate)
		require.Greater(t, largest, edgecore.MaxUpdate*9/10)
		for i := range d.Properties {
			require.NotEmpty(t, b.cloudValue(boiler, d.Properties[i].Name), i)
		}
		// All change all the time: none is left behind.
		for i := range 10 {
			for j := range readings {
				readings[j].Value = twin.StringValue(fmt.Sprint(i, strings.Repeat("v", 500)))
			}
			b.Report(d, readings)
			pass(time.Second)
		}
		old := 0
		for i := range d.Properties {
			if strings.HasPrefix(b.value(boiler, d.Properties[i].Name), "v") {
				old++
			}
		}
		require.Zero(t, old)
		b.set(func() { require.Zero(t, b.mixed) })
	})
}

func TestForgetDropsWhatWaits(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.bus.SetUp(false)
		d := device(boiler, time.Second, "a")
		b.Report(d, ints("a", 1))
		other := device(twin.DeviceID{Namespace: "plant", Name: "other"}, time.Second, "a")
		b.Report(other, ints("a", 1))
		pass(time.Second)
		b.Forget(other.ID)
		b.Forget(boiler)
		b.bus.SetUp(true)
		pass(time.Minute)
		twins, _ := b.requests(other.ID)
		more, _ := b.requests(boiler)
		require.LessOrEqual(t, len(twins)+len(more), 1, "what was with the bus already")
		require.Zero(t, b.Reporter.Stats().Devices)
	})
}

func TestAChangedDeclarationKeepsWhatStays(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.Report(device(boiler, time.Second, "a", "b"), ints("a", 1, "b", 2))
		pass(5 * time.Second)
		b.Report(device(boiler, time.Second, "a", "c"), ints("a", 1, "b", 9, "c", 3))
		pass(5 * time.Second)
		twins, _ := b.requests(boiler)
		require.Len(t, twins, 4)
		require.Equal(t, []string{"c"}, twins[2].names)
	})
}

func TestARestartTellsEverythingAgain(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.Report(device(boiler, time.Hour, "a"), ints("a", 1))
		pass(5 * time.Second)
		b.Stop()
		require.NoError(t, b.Start(t.Context()))
		pass(5 * time.Second)
		twins, _ := b.requests(boiler)
		require.Len(t, twins, 4)
	})
}

func TestOddMessagesAreCounted(t *testing.T) {
	run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
		b.publish(edgecore.TwinUpdateResultTopic(boiler), []byte("{"))
		b.publish(edgecore.StateUpdateResultTopic(boiler), []byte("["))
		b.publish(edgecore.MembershipUpdatedTopic("n"), []byte("7"))
		b.publish(edgecore.NoDeviceResultTopic, []byte(`{"code":400,"reason":"x"}`))
		b.publish(edgecore.NoDeviceResultTopic, []byte(`{`))
		pass(time.Second)
		require.Equal(t, 5.0, total(t, b.reg, "twinline_twin_odd_messages_total"))
	})
}

func TestDevicesAreBounded(t *testing.T) {
	memory := bustest.NewMemory()
	defer memory.Close()
	r := edgecore.NewReporter(edgecore.Config{Bus: memory})
	for i := range edgecore.MaxDevices + 5 {
		r.State(&twin.Device{ID: twin.DeviceID{Namespace: "plant", Name: fmt.Sprint(i)}}, twin.Online)
	}
	require.Equal(t, edgecore.MaxDevices, r.Stats().Devices)
}

// total returns the metric of a name, summed over its labels.
func total(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
