package uplink

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/forward"
	"github.com/twinline/twinline/internal/service/servicetest"
	"github.com/twinline/twinline/pkg/twin"
)

// inBubble runs a test in fake time; wait lets it pass.
func inBubble(t *testing.T, change func(*Config), test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, change)
		test(t, f)
		f.up.Stop()
		f.bus.Close()
	})
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestUplinkKeepsTheServiceContract(t *testing.T) {
	f := newFixture(t, nil)
	servicetest.Stress(t, f.up)
}

func TestSamplesReachTheCloudInOrderAndAreAcknowledgedOnTheBus(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.start()
		f.publish("a", 1, sequence(1, 100)...)
		f.publish("b", 4, sequence(1, 50)...)
		wait(3 * time.Second)
		require.Equal(t, map[string][]uint64{"plant/a": sequence(1, 100), "plant/b": sequence(1, 50)}, f.cloud.distinct(t))
		require.Len(t, f.cloud.samples(), 150)
		require.Equal(t, twin.Position{Epoch: 1, Seq: 100}, f.position("a"))
		require.Equal(t, twin.Position{Epoch: 4, Seq: 50}, f.position("b"))
		require.Equal(t, sampleOf("a", 1, 7), f.cloud.samples()[6])
		require.NoError(t, f.up.Ready())
	})
}

func TestAcknowledgementsAreGathered(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.start()
		wait(time.Second)
		before := len(f.ackTime)
		for seq := uint64(1); seq <= 100; seq++ {
			f.publish("a", 1, seq)
			wait(10 * time.Millisecond)
		}
		wait(time.Second)
		require.LessOrEqual(t, len(f.ackTime)-before, 7, "one second of samples at one acknowledgement per 200 ms")
		require.Equal(t, uint64(100), f.position("a").Seq)
	})
}

func TestMappersHearOfTheUplinkAgainAndAgain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.start()
		wait(10*time.Minute + time.Second)
		require.GreaterOrEqual(t, len(f.ackTime), 10)
	})
}

func TestNothingIsAcknowledgedWhileTheDiskIsFull(t *testing.T) {
	inBubble(t, func(c *Config) { c.IntakeBytes = twin.MaxSampleSize }, func(t *testing.T, f *fixture) {
		f.start()
		f.publish("a", 1, 1)
		wait(time.Second)
		f.setFull(true)
		f.publish("a", 1, sequence(2, 6000)...)
		wait(time.Minute)
		require.Equal(t, uint64(1), f.position("a").Seq)
		require.ErrorContains(t, f.up.Ready(), "cannot be stored")
		require.Positive(t, f.up.counts.overflow.Load(), "the intake is bounded")
		require.LessOrEqual(t, f.up.session().intake.bytes, int64(twin.MaxSampleSize))
		f.setFull(false)
		wait(10 * time.Second)
		require.NoError(t, f.up.Ready())
		held := f.position("a").Seq
		require.Less(t, held, uint64(6000))
		f.publish("a", 1, sequence(held+1, 6000)...) // as the mapper does
		wait(30 * time.Second)
		require.Equal(t, uint64(6000), f.position("a").Seq)
		require.Equal(t, sequence(1, 6000), f.cloud.distinct(t)["plant/a"])
	})
}

func TestDuplicatesAreStoredOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.start()
		f.publish("a", 1, 1, 2, 2, 1, 3)
		f.publish("a", 2, 1, 2)
		f.publish("a", 1, 2, 4) // of the epoch before: not stored, answered
		f.publish("a", 2, 2, 3)
		wait(3 * time.Second)
		require.Len(t, f.cloud.samples(), 6)
		require.Equal(t, twin.Position{Epoch: 2, Seq: 3}, f.position("a"))
		require.Equal(t, uint64(2), f.up.counts.stale.Load())
		require.Equal(t, uint64(3), f.up.counts.duplicate.Load())
	})
}

func TestPositionsSurviveARestart(t *testing.T) {
	for _, forget := range []bool{false, true} {
		t.Run(fmt.Sprintf("file gone %t", forget), func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				f.cloud.setFault(away)
				f.start()
				f.publish("a", 1, sequence(1, 10)...)
				wait(time.Second)
				f.up.Stop()
				if forget {
					require.NoError(t, os.Remove(filepath.Join(f.cfg.Dir, positionsFile)))
				}
				f.cloud.setFault(nil)
				f.renew()
				f.start()
				f.publish("a", 1, sequence(8, 12)...)
				wait(3 * time.Second)
				require.Equal(t, sequence(1, 12), f.cloud.distinct(t)["plant/a"])
				require.Len(t, f.cloud.samples(), 12, "no sample was stored twice")
				require.Equal(t, uint64(12), f.position("a").Seq)
			})
		})
	}
}

func TestDamagedPositionsAreReadFromTheSpool(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(away)
		f.start()
		f.publish("a", 1, sequence(1, 10)...)
		wait(time.Second)
		f.up.Stop()
		path := filepath.Join(f.cfg.Dir, positionsFile)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), `"seq":10`, `"seq":90`, 1)), 0o600))
		f.renew()
		f.start()
		wait(time.Second)
		require.Equal(t, uint64(10), f.position("a").Seq)
	})
}

func TestMessagesThatBreakTheContractAreRefused(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxDevices = 1 }, func(t *testing.T, f *fixture) {
		f.start()
		s := sampleOf("a", 1, 1)
		good := s.AppendJSON(nil)
		for topic, payload := range map[string]string{
			"twinline/telemetry/plant/b": string(good),
			"twinline/telemetry/plant/A": string(good),
			"twinline/telemetry/plant/a": `{"device":"plant/a"}`,
			"twinline/telemetry/plant/c": `nonsense`,
		} {
			require.NoError(t, f.bus.Publish(t.Context(), topic, []byte(payload)))
		}
		f.publish("a", 1, 1)
		wait(time.Second)
		require.Equal(t, uint64(4), f.up.counts.refused.Load())
		f.publish("z", 1, 1) // a device beyond the bound
		wait(time.Second)
		require.Equal(t, uint64(5), f.up.counts.refused.Load())
		require.Len(t, f.cloud.samples(), 1)
	})
}

func TestTheLinkIsMeasured(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(away)
		began := time.Now()
		f.start()
		wait(time.Second)
		_, known := f.bus.link(t)
		require.False(t, known, "it is unknown at first")
		wait(DefaultDownAfter)
		state, known := f.bus.link(t)
		require.True(t, known)
		require.False(t, state.Up)
		require.Equal(t, "edge-1", state.Node)
		require.WithinDuration(t, began.Add(DefaultDownAfter), state.Since, time.Second)
		st, ok := f.up.Status()
		require.True(t, ok)
		require.Contains(t, st.Reason, "connection refused")
		f.cloud.setFault(nil)
		wait(maxBackoff)
		state, _ = f.bus.link(t)
		require.True(t, state.Up, "a heartbeat found out")
		f.cloud.setFault(away)
		wait(DefaultHeartbeat + DefaultDownAfter)
		state, _ = f.bus.link(t)
		require.False(t, state.Up, "an idle link is tried too")
		require.NoError(t, f.up.Ready(), "a cut link is no reason not to be ready")
	})
}

func TestTheLinkIsToldAgainAfterAReconnect(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.start()
		f.publish("a", 1, 1)
		wait(3 * time.Second)
		require.Equal(t, 1, f.bus.links)
		acks := len(f.ackTime)
		f.bus.SetUp(false)
		f.bus.SetUp(true)
		wait(time.Second)
		require.Equal(t, 2, f.bus.links)
		require.Greater(t, len(f.ackTime), acks)
	})
}

func TestAPoisonedSampleIsPutAsideAlone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(func(b *forward.Batch) (*forward.Ack, error, bool) {
			for _, s := range b.Samples {
				if s.Seq == 77 || s.Seq == 78 {
					return &forward.Ack{Stream: b.Stream, Last: b.First - 1, Error: "a property is not storable"}, nil, false
				}
			}
			return nil, nil, false
		})
		f.start()
		f.publish("a", 1, sequence(1, 300)...)
		wait(20 * time.Second)
		want := append(sequence(1, 76), sequence(79, 300)...)
		require.Equal(t, want, f.cloud.distinct(t)["plant/a"])
		require.Equal(t, uint64(2), f.up.counts.rejected.Load())
		files, err := os.ReadDir(filepath.Join(f.cfg.Dir, rejectedDir))
		require.NoError(t, err)
		require.Len(t, files, 2)
		data, err := os.ReadFile(filepath.Join(f.cfg.Dir, rejectedDir, files[0].Name()))
		require.NoError(t, err)
		require.Contains(t, string(data), `"seq":77`)
		require.Contains(t, string(data), "a property is not storable")
		state, _ := f.bus.link(t)
		require.True(t, state.Up)
	})
}

func TestABatchThatTheCloudCannotDecodeIsNarrowedDownInTheEnd(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		refusals := 0
		f.cloud.setFault(func(b *forward.Batch) (*forward.Ack, error, bool) {
			for _, s := range b.Samples {
				if s.Seq == 33 {
					refusals++
					return &forward.Ack{Error: "not a batch"}, nil, false
				}
			}
			return nil, nil, false
		})
		f.start()
		f.publish("a", 1, sequence(1, 64)...)
		wait(2 * time.Minute)
		require.Equal(t, append(sequence(1, 32), sequence(34, 64)...), f.cloud.distinct(t)["plant/a"])
		require.Greater(t, refusals, undecodedTries)
		require.Equal(t, uint64(1), f.up.counts.rejected.Load())
	})
}

func TestACloudThatRefusesEverythingDoesNotEmptyTheSpool(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(func(b *forward.Batch) (*forward.Ack, error, bool) {
			if b.IsHeartbeat() {
				return nil, nil, false
			}
			return &forward.Ack{Stream: b.Stream, Last: b.First - 1, Error: "unknown version"}, nil, false
		})
		f.start()
		f.publish("a", 1, sequence(1, 500)...)
		wait(10 * time.Minute)
		require.LessOrEqual(t, f.up.counts.rejected.Load(), uint64(maxRejects+11))
		require.ErrorContains(t, f.up.Ready(), "unknown version")
		f.cloud.setFault(nil)
		wait(time.Minute)
		require.NoError(t, f.up.Ready())
		require.Len(t, f.cloud.samples(), 500-int(f.up.counts.rejected.Load()))
	})
}

func TestAWrongTokenIsTriedSlowly(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(func(*forward.Batch) (*forward.Ack, error, bool) {
			return nil, &forward.SendError{Code: forward.CodeUnauthorised, Err: errors.New("401")}, false
		})
		f.start()
		wait(10 * time.Minute)
		require.LessOrEqual(t, len(f.cloud.times), 21)
		require.ErrorContains(t, f.up.Ready(), "token")
		f.cloud.setFault(nil)
		wait(time.Minute)
		require.NoError(t, f.up.Ready())
	})
}

func TestTheServerSaysWhenToComeBack(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(func(*forward.Batch) (*forward.Ack, error, bool) {
			return nil, &forward.SendError{Code: forward.CodeBusy, RetryAfter: time.Minute, Err: errors.New("503")}, false
		})
		f.start()
		wait(10*time.Minute + time.Second)
		require.LessOrEqual(t, len(f.cloud.times), 11)
	})
}

func TestBatchesArePaced(t *testing.T) {
	inBubble(t, func(c *Config) { c.BatchRecords = 10; c.Rate = 5 }, func(t *testing.T, f *fixture) {
		f.cloud.setFault(away)
		f.start()
		f.publish("a", 1, sequence(1, 2000)...)
		wait(time.Second)
		f.cloud.setFault(nil)
		wait(maxBackoff)
		before := len(f.cloud.samples())
		wait(10 * time.Second)
		require.InDelta(t, 500, len(f.cloud.samples())-before, 20, "ten seconds of five batches of ten")
		for i := range f.cloud.batches {
			require.LessOrEqual(t, len(f.cloud.batches[i].Samples), 10)
		}
	})
}

func TestTooLargeABatchIsHalved(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(func(b *forward.Batch) (*forward.Ack, error, bool) {
			if len(b.Samples) > 20 {
				return nil, &forward.SendError{Code: forward.CodeTooLarge, Err: errors.New("413")}, false
			}
			return nil, nil, false
		})
		f.start()
		f.publish("a", 1, sequence(1, 300)...)
		wait(20 * time.Second)
		require.Equal(t, sequence(1, 300), f.cloud.distinct(t)["plant/a"])
		require.Zero(t, f.up.counts.rejected.Load())
	})
}

// TestAnyFaults publishes as mappers do over any schedule of faults and restarts.
// In the end the cloud has exactly what was acknowledged, after removing
// doubles each sample once, and per device in the order in which uplink got them: the
// sequence, unless a process ended with samples that the disk had no room for.
func TestAnyFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "faults")
		rounds := rapid.IntRange(0, 60).Draw(rt, "rounds")
		size := rapid.IntRange(1, 50).Draw(rt, "batch")
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 25).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.BatchRecords = size })
			f.cloud.setFault(faults(seed, rounds))
			f.start()
			next := map[string]uint64{}
			for i, step := range steps {
				f.step(step, i, next)
			}
			f.setFull(false)
			f.cloud.setFault(nil)
			f.resend(next)
			wait(3 * time.Minute)
			got := f.cloud.distinct(t)
			for device, last := range next {
				if f.forgot {
					slices.Sort(got["plant/"+device])
				}
				require.Equal(t, sequence(1, last), got["plant/"+device])
				require.Equal(t, last, f.position(device).Seq)
			}
			f.up.Stop()
			f.bus.Close()
		})
	})
}

// step does one thing of a schedule.
func (f *fixture) step(step, i int, next map[string]uint64) {
	switch {
	case step < 6: // samples of one device
		device := string(rune('a' + step%3))
		first := next[device] + 1
		next[device] += uint64(1 + i*7%40)
		f.publish(device, 1, sequence(first, next[device])...)
	case step == 6:
		wait(time.Duration(i%5+1) * time.Second)
	case step == 7:
		wait(300 * time.Millisecond)
		f.forgot = f.forgot || f.up.Ready() != nil
		f.up.Stop() // a new process
		f.renew()
		f.start()
	case step == 8:
		f.setFull(i%2 == 0)
	case step == 9:
		f.resend(next)
	}
}

// resend publishes what is not acknowledged, as mappers do.
func (f *fixture) resend(next map[string]uint64) {
	wait(time.Second)
	for device, last := range next {
		f.publish(device, 1, sequence(f.position(device).Seq+1, last)...)
	}
}

func TestStatusAndMetrics(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.cloud.setFault(away)
		answer := httptest.NewRecorder()
		f.up.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/spool", nil))
		require.Equal(t, 503, answer.Code)
		require.ErrorContains(t, f.up.Ready(), "not running")
		f.start()
		f.publish("a", 1, 1, 2, 3)
		wait(20 * time.Second)
		answer = httptest.NewRecorder()
		f.up.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/spool", nil))
		require.Equal(t, 200, answer.Code)
		require.Contains(t, answer.Body.String(), `"records":3`)
		require.Contains(t, answer.Body.String(), `"up":false`)
		registry := prometheus.NewRegistry()
		require.NoError(t, registry.Register(&collector{f.up}))
		families, err := registry.Gather()
		require.NoError(t, err)
		require.Greater(t, len(families), 10)
	})
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no node":        func(c *Config) { c.Node = "" },
		"no directory":   func(c *Config) { c.Dir = "" },
		"records":        func(c *Config) { c.BatchRecords = forward.MaxSamples + 1 },
		"bytes":          func(c *Config) { c.BatchBytes = -1 },
		"rate":           func(c *Config) { c.Rate = 0.01 },
		"heartbeat":      func(c *Config) { c.Heartbeat = time.Millisecond },
		"down":           func(c *Config) { c.DownAfter = time.Millisecond },
		"intake":         func(c *Config) { c.IntakeBytes = 1 },
		"devices":        func(c *Config) { c.MaxDevices = -1 },
		"lingers an age": func(c *Config) { c.Linger = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Node: "n", Dir: "d"}
			change(&cfg)
			_, err := New(cfg, Deps{Bus: newMemoryBus()})
			require.Error(t, err)
		})
	}
}
