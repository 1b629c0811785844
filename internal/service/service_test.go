package service_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func idle(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	return ctx.Err()
}

func TestRunnerKeepsTheContract(t *testing.T) {
	servicetest.Stress(t, service.New("idle", idle))
}

func TestGroupKeepsTheContract(t *testing.T) {
	servicetest.Stress(t, service.Group("pair", service.New("a", idle), service.New("b", idle)))
}

func TestStartReportsWhyItFailed(t *testing.T) {
	broken := errors.New("port taken")
	svc := service.New("api", func(context.Context, func()) error { return broken })
	err := svc.Start(t.Context())
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "start api")
	<-svc.Done()
	require.ErrorIs(t, svc.Err(), broken)
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	svc := service.New("slow", func(run context.Context, _ func()) error {
		cancel()
		<-run.Done()
		return run.Err()
	})
	require.ErrorIs(t, svc.Start(ctx), context.Canceled)
	<-svc.Done()
}

func TestGroupStartsInOrderAndStopsInReverse(t *testing.T) {
	var log []string
	part := func(name string) service.Service {
		return service.New(name, func(ctx context.Context, ready func()) error {
			log = append(log, "+"+name)
			ready()
			<-ctx.Done()
			log = append(log, "-"+name)
			return nil
		})
	}
	g := service.Group("g", part("a"), part("b"), part("c"))
	require.NoError(t, g.Start(t.Context()))
	g.Stop()
	require.Equal(t, []string{"+a", "+b", "+c", "-c", "-b", "-a"}, log)
}

func TestGroupEndsWhenAMemberFails(t *testing.T) {
	fail := make(chan struct{})
	broken := errors.New("disk full")
	g := service.Group("g", service.New("a", idle), service.New("b", func(_ context.Context, ready func()) error {
		ready()
		<-fail
		return broken
	}))
	require.NoError(t, g.Start(t.Context()))
	close(fail)
	<-g.Done()
	require.ErrorIs(t, g.Err(), broken)
}
