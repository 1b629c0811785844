package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func bubble(t *testing.T, test func(t *testing.T, l *Line)) {
	synctest.Test(t, func(t *testing.T) {
		l := Open()
		defer l.Close()
		test(t, l)
	})
}

// hold occupies the line until the returned function is called.
func hold(t *testing.T, l *Line) (release func()) {
	free := make(chan struct{})
	var held sync.WaitGroup
	held.Go(func() {
		_ = l.Do(context.Background(), &Request{Run: func(context.Context) error { <-free; return nil }})
	})
	synctest.Wait()
	return func() { close(free); held.Wait() }
}

func TestOneAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		var running, ran atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				require.NoError(t, l.Do(t.Context(), &Request{Station: uint32(i), Run: func(context.Context) error {
					require.EqualValues(t, 1, running.Add(1))
					time.Sleep(time.Millisecond)
					running.Add(-1)
					ran.Add(1)
					return nil
				}}))
			})
		}
		all.Wait()
		require.EqualValues(t, 50, ran.Load())
		require.Equal(t, 50*time.Millisecond, l.Stats().Busy)
	})
}

func TestOrder(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		release := hold(t, l)
		var order []string
		var all sync.WaitGroup
		add := func(name string, class Class, due time.Duration) {
			all.Go(func() {
				_ = l.Do(t.Context(), &Request{Class: class, Deadline: time.Now().Add(due), Run: func(context.Context) error {
					order = append(order, name)
					return nil
				}})
			})
			synctest.Wait()
		}
		add("poll due late", Poll, 3*time.Second)
		add("poll due soon", Poll, time.Second)
		add("first write", Write, time.Hour)
		add("second write", Write, time.Second)
		add("poll due soon too", Poll, time.Second)
		release()
		all.Wait()
		require.Equal(t, []string{"first write", "second write", "poll due soon", "poll due soon too", "poll due late"}, order)
	})
}

func TestWritesLeaveRoomForPolls(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		release := hold(t, l)
		var order []Class
		var all sync.WaitGroup
		for i := range 3 * writeBurst {
			class := Write
			if i < 2 {
				class = Poll
			}
			all.Go(func() {
				_ = l.Do(t.Context(), &Request{Class: class, Run: func(context.Context) error { order = append(order, class); return nil }})
			})
		}
		synctest.Wait()
		release()
		all.Wait()
		require.Equal(t, Poll, order[writeBurst])
		require.Equal(t, Poll, order[2*writeBurst+1])
	})
}

func TestAPanicFreesTheLine(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		require.Panics(t, func() {
			_ = l.Do(t.Context(), &Request{Run: func(context.Context) error { panic("driver") }})
		})
		require.NoError(t, l.Do(t.Context(), &Request{Run: func(context.Context) error { return nil }}))
	})
}

func TestManyWhoFindTheLineFreeRunOneAtATime(t *testing.T) {
	l := Open()
	defer l.Close()
	var running atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 500 {
				require.NoError(t, l.Do(t.Context(), &Request{Class: Class(i % 2), Run: func(context.Context) error {
					require.EqualValues(t, 1, running.Add(1))
					running.Add(-1)
					return nil
				}}))
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 4000, l.Stats().Requests)
	require.Zero(t, l.Stats().Waiting)
}

func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		start := time.Now()
		req := &Request{Pause: 50 * time.Millisecond, Run: func(context.Context) error { return nil }}
		require.NoError(t, l.Do(t.Context(), req))
		require.NoError(t, l.Do(t.Context(), req))
		require.Equal(t, 50*time.Millisecond, time.Since(start))
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		release := hold(t, l)
		var all sync.WaitGroup
		for range MaxWaiting {
			all.Go(func() { _ = l.Do(t.Context(), &Request{Run: func(context.Context) error { return nil }}) })
		}
		synctest.Wait()
		require.Equal(t, MaxWaiting, l.Stats().Waiting)
		require.ErrorIs(t, l.Do(t.Context(), &Request{}), ErrBusy)
		release()
		all.Wait()
		require.EqualValues(t, MaxWaiting+1, l.Stats().Requests)
	})
}

func TestAWaiterLeavesWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		release := hold(t, l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := l.Do(ctx, &Request{Run: func(context.Context) error { t.Error("ran"); return nil }})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrWaited)
		require.Zero(t, l.Stats().Waiting)
		release()
	})
}

func TestCloseEndsAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Open()
		release := hold(t, l)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { require.ErrorIs(t, l.Do(t.Context(), &Request{}), ErrClosed) })
		}
		synctest.Wait()
		all.Go(l.Close)
		all.Go(l.Close)
		synctest.Wait()
		release()
		all.Wait()
		require.ErrorIs(t, l.Do(t.Context(), &Request{}), ErrClosed)
	})
}

// Dead stations take a second to time out. The others must keep a cycle of a
// second all the same, and the dead ones must be noticed when they return.
func TestDeadStationsDoNotStarveTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		const stations, deadOnes = 12, 6
		var dead atomic.Bool
		dead.Store(true)
		answered := make([]atomic.Int32, stations)
		probed := make([]atomic.Int32, stations)
		for i := range uint32(stations) {
			l.Join(i)
		}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range uint32(stations) {
			all.Go(func() {
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for ctx.Err() == nil {
					_ = l.Do(ctx, &Request{Station: i, Deadline: time.Now().Add(time.Second), Run: func(context.Context) error {
						if i < deadOnes && dead.Load() {
							probed[i].Add(1)
							time.Sleep(time.Second)
							return ErrSilent
						}
						time.Sleep(10 * time.Millisecond)
						answered[i].Add(1)
						return nil
					}})
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
		}
		time.Sleep(30 * time.Second) // the dead ones become known
		before := answered[stations-1].Load()
		time.Sleep(5 * time.Minute)
		got := answered[stations-1].Load() - before
		require.GreaterOrEqual(t, got, int32(240), "polls of a live station in 300 s")
		for i := range deadOnes {
			require.GreaterOrEqual(t, probed[i].Load(), int32(5), "probes of dead station %d", i)
		}
		require.Equal(t, deadOnes, l.Stats().Dead)
		dead.Store(false)
		time.Sleep(lastProbe + 15*time.Second)
		require.Zero(t, l.Stats().Dead)
		stop()
		all.Wait()
	})
}

func TestASuspendedStationSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		l.Join(1)
		why := fmt.Errorf("unit 1: %w", ErrSilent)
		silent := &Request{Station: 1, Run: func(context.Context) error { return why }}
		for range 2 * deadAfter {
			require.NotErrorIs(t, l.Do(t.Context(), silent), ErrSuspended, "it has the line alone")
		}
		l.Join(2)
		err := l.Do(t.Context(), silent)
		require.ErrorIs(t, err, ErrSuspended)
		require.ErrorIs(t, err, why)
		require.ErrorIs(t, l.Do(t.Context(), &Request{Station: 1, Class: Write, Run: silent.Run}), why, "a write is tried")
		l.Leave(2)
		require.NotErrorIs(t, l.Do(t.Context(), silent), ErrSuspended)
	})
}

func TestALineThatIsDownIsNoStationsFault(t *testing.T) {
	bubble(t, func(t *testing.T, l *Line) {
		l.Join(1)
		l.Join(2)
		for range 3 * deadAfter {
			err := l.Do(t.Context(), &Request{Station: 1, Run: func(context.Context) error { return ErrDown }})
			require.True(t, errors.Is(err, ErrDown) && !errors.Is(err, ErrSuspended))
		}
	})
}

func BenchmarkDo(b *testing.B) {
	l := Open()
	defer l.Close()
	l.Join(1)
	req := &Request{Station: 1, Run: func(context.Context) error { return nil }}
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Do(b.Context(), req)
	}
}
