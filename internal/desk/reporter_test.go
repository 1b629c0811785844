package desk

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/pkg/twin"
)

// loop is a broker in memory: what one publishes, all others that match get.
type loop struct {
	mu   sync.Mutex
	subs map[int]subscription
	next int
}

type subscription struct {
	filter []string
	handle func(string, []byte)
}

func (l *loop) OnConnect(hook func()) { hook() }

func (l *loop) Subscribe(filter string, handle func(string, []byte)) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subs == nil {
		l.subs = map[int]subscription{}
	}
	l.next++
	n := l.next
	l.subs[n] = subscription{strings.Split(filter, "/"), handle}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, n)
	}, nil
}

func (l *loop) Publish(_ context.Context, topic string, payload []byte) error {
	l.mu.Lock()
	var handles []func(string, []byte)
	for _, s := range l.subs {
		if matches(s.filter, strings.Split(topic, "/")) {
			handles = append(handles, s.handle)
		}
	}
	l.mu.Unlock()
	for _, h := range handles {
		h(topic, payload)
	}
	return nil
}

func matches(filter, topic []string) bool {
	for i, f := range filter {
		if f == "#" {
			return true
		}
		if i >= len(topic) || (f != "+" && f != topic[i]) {
			return false
		}
	}
	return len(filter) == len(topic)
}

// The Reporter that a mapper uses and the desk get along: what is reported is in
// the cloud though CloudCore loses first reports, and again after the link was cut.
func TestWhatAReporterTellsIsSeenInTheCloud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		bus := &loop{}
		f.deps.Bus = bus
		f.run(t)
		defer f.Stop()
		reporter := edgecore.NewReporter(edgecore.Config{Bus: bus})
		require.NoError(t, reporter.Start(t.Context()))
		defer reporter.Stop()

		device := &twin.Device{ID: boiler(), Node: "edge-a", Properties: []twin.Property{
			{Name: "temperature", Type: twin.TypeFloat, CollectCycle: time.Second, ReportCycle: time.Second, ReportToCloud: true},
			{Name: "setpoint", Type: twin.TypeString, CollectCycle: time.Second, ReportCycle: time.Second, ReportToCloud: true},
		}}
		report := func(temperature float64, text string) { // as a mapper does, poll for poll
			for range 60 {
				reporter.Report(device, []twin.Reading{{Property: "temperature", Value: twin.FloatValue(temperature)}, {Property: "setpoint", Value: twin.StringValue(text)}})
				time.Sleep(time.Second)
			}
		}
		reporter.State(device, twin.Online)
		report(20.5, "20 °C")
		require.Equal(t, "20.5", f.reported("temperature"))
		require.Equal(t, "20 °C", edgecore.Decode(f.reported("setpoint")))
		require.Equal(t, "online", f.status().Status.State)

		f.SetLink(false)
		report(21.5, "21 °C")
		require.Equal(t, "20.5", f.reported("temperature"))
		f.SetLink(true)
		time.Sleep(2 * edgecore.DefaultReannounce)
		require.Equal(t, "21.5", f.reported("temperature"), "within one cycle all is right again")
		require.Equal(t, "21 °C", edgecore.Decode(f.reported("setpoint")))
		require.Empty(t, f.Jammed())
		require.Zero(t, f.Dropped())
	})
}
