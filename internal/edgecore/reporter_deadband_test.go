package edgecore_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/pkg/twin"
)

// banded is a device with one number, the desired value of which may be nil.
func banded(typ twin.Type, band float64, desired *string) *twin.Device {
	return &twin.Device{ID: boiler, Properties: []twin.Property{
		{Name: "a", Type: typ, Writable: true, ReportCycle: time.Second, ReportToCloud: true, Deadband: band, Desired: desired},
	}}
}

func TestDeadband(t *testing.T) {
	f, i := twin.FloatValue, twin.IntValue
	for name, test := range map[string]struct {
		typ   twin.Type
		band  float64
		first twin.Value
		then  twin.Value
		news  bool
	}{
		"none":                      {twin.TypeDouble, 0, f(20), f(20.0000001), true},
		"below":                     {twin.TypeDouble, 0.5, f(20), f(20.4), false},
		"exactly":                   {twin.TypeDouble, 0.5, f(20), f(20.5), false},
		"a hair more":               {twin.TypeDouble, 0.5, f(20), f(math.Nextafter(20.5, 21)), true},
		"exactly, in decimals":      {twin.TypeDouble, 0.1, f(20), f(20.1), false}, // 20.1-20 is above 0.1 in float64
		"exactly, downwards":        {twin.TypeDouble, 0.1, f(0.3), f(0.2), false},
		"a hair more, in decimals":  {twin.TypeDouble, 0.1, f(20), f(20.10000000000001), true},
		"through zero":              {twin.TypeDouble, 0.3, f(0.1), f(-0.2), false},
		"through zero, beyond":      {twin.TypeDouble, 0.3, f(0.1), f(-0.21), true},
		"integers":                  {twin.TypeInt, 2, i(5), i(7), false},
		"integers, beyond":          {twin.TypeInt, 2, i(5), i(8), true},
		"integers beyond 2^53":      {twin.TypeInt, 1, i(1<<60 + 1), i(1<<60 + 2), false},
		"integers beyond 2^53, far": {twin.TypeInt, 1, i(1<<60 + 1), i(1<<60 + 3), true},
		"as far as it goes":         {twin.TypeDouble, 1, f(-math.MaxFloat64), f(math.MaxFloat64), true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, edgecore.Config{}, func(t *testing.T, b *bench) {
				d := banded(test.typ, test.band, nil)
				b.Report(d, []twin.Reading{{Property: "a", Value: test.first}})
				pass(10 * time.Second)
				b.Report(d, []twin.Reading{{Property: "a", Value: test.then}})
				pass(10 * time.Second)
				want := test.first
				if test.news {
					want = test.then
				}
				require.Equal(t, want.Text(), b.cloudValue(boiler, "a"))
				twins, _ := b.requests(boiler)
				require.Equal(t, test.news, len(twins) == 3, "two first reports, and the news")
			})
		})
	}
}

func reportFloat(b *bench, d *twin.Device, x float64) {
	b.Report(d, []twin.Reading{{Property: "a", Value: twin.FloatValue(x)}})
	pass(2 * time.Second)
}

// A slow drift is measured from what was told, not from the last reading.
func TestADriftAddsUpToNews(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		d := banded(twin.TypeDouble, 1, nil)
		for i := range 100 { // 20.0, 20.3 … 49.7
			reportFloat(b, d, 20+float64(3*i)/10)
		}
		twins, _ := b.requests(boiler)
		require.Len(t, twins, 2+99/4, "every fourth reading is more than 1 away: 1.2")
		require.Equal(t, "48.8", b.cloudValue(boiler, "a"))
	})
}

func TestTheRepetitionTellsWhatIsWithinTheDeadband(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Minute}, func(t *testing.T, b *bench) {
		d := banded(twin.TypeDouble, 1, nil)
		reportFloat(b, d, 20)
		reportFloat(b, d, 20.5)
		require.Equal(t, "20", b.cloudValue(boiler, "a"))
		pass(time.Minute * 5 / 4)
		require.Equal(t, "20.5", b.cloudValue(boiler, "a"))
		reportFloat(b, d, 21.5)
		require.Equal(t, "20.5", b.cloudValue(boiler, "a"), "the distance is from what was told last")
	})
}

func TestTheFirstValueAfterABadOneIsNews(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		d := banded(twin.TypeDouble, 1, nil)
		reportFloat(b, d, 20)
		pass(5 * time.Second)
		b.Report(d, []twin.Reading{twin.BadReading("a", "timeout")})
		reportFloat(b, d, 20.5)
		require.Equal(t, "20.5", b.cloudValue(boiler, "a"))
	})
}

func TestTheDesiredValueIsToldWhateverTheDeadband(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		reportFloat(b, banded(twin.TypeDouble, 5, nil), 20)
		pass(5 * time.Second)
		d := banded(twin.TypeDouble, 5, new("21"))
		reportFloat(b, d, 20.5)
		require.Equal(t, "20", b.cloudValue(boiler, "a"))
		reportFloat(b, d, 21)
		require.Equal(t, "21", b.cloudValue(boiler, "a"))
		reportFloat(b, d, 21.5)
		require.Equal(t, "21", b.cloudValue(boiler, "a"))
	})
}

func TestANewDeadbandHoldsAtOnce(t *testing.T) {
	run(t, edgecore.Config{Reannounce: time.Hour}, func(t *testing.T, b *bench) {
		reportFloat(b, banded(twin.TypeDouble, 5, nil), 20)
		pass(5 * time.Second)
		reportFloat(b, banded(twin.TypeDouble, 5, nil), 21)
		require.Equal(t, "20", b.cloudValue(boiler, "a"))
		reportFloat(b, banded(twin.TypeDouble, 0.5, nil), 21)
		require.Equal(t, "21", b.cloudValue(boiler, "a"))
	})
}

// Deadbands spare messages; they take nothing from the guarantee.
func TestTwinsWithDeadbandsConvergeAfterAnyFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 80).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(*testing.T) {
			s, end := newSchedule(seed, 2, 4)
			defer end()
			for _, d := range s.devices {
				for i := range d.Properties {
					d.Properties[i].Deadband = float64(s.n(3)) / 3
				}
			}
			for range steps {
				s.step()
				time.Sleep(time.Duration(s.n(4000)) * time.Millisecond)
			}
			s.mend()
			time.Sleep(reannounce * 5 / 4)
			synctest.Wait()
			err = s.check()
		})
		require.NoError(rt, err)
	})
}
