// Package servicetest checks that a service keeps the contract of service.Service.
package servicetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/service"
)

// Rounds is how often Stress starts and stops the service.
const Rounds = 100

// Stress starts and stops svc many times in every order that the contract
// allows: stop before start, double stop, stop during start, start with an ended
// context, start again. Run it under -race.
func Stress(t *testing.T, svc service.Service) {
	t.Helper()
	ctx := t.Context()
	svc.Stop()
	for range Rounds {
		require.NoError(t, svc.Start(ctx))
		require.ErrorIs(t, svc.Start(ctx), service.ErrRunning)
		svc.Stop()
		svc.Stop()
		requireDone(t, svc)
		require.NoError(t, svc.Err())
	}
	for range Rounds {
		var wg sync.WaitGroup
		wg.Go(func() { _ = svc.Start(ctx) })
		wg.Go(svc.Stop)
		wg.Go(svc.Stop)
		wg.Wait()
		svc.Stop()
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := svc.Start(ended); err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	svc.Stop()
	require.NoError(t, svc.Start(ctx))
	svc.Stop()
	requireDone(t, svc)
}

func requireDone(t *testing.T, svc service.Service) {
	t.Helper()
	select {
	case <-svc.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done is not closed after Stop")
	}
}
