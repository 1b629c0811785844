package devicemgmt

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/twin"
)

// T0 is when the tests of joining happen.
func t0() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// joined is an inventory with the boiler and a clock to turn.
type joined struct {
	*inventory
	clock time.Time
}

func newJoined(t *testing.T) *joined {
	j := &joined{inventory: newInventory(plainText(), patience{report: 5 * time.Minute, state: 3 * time.Minute, write: 30 * time.Second}), clock: t0()}
	j.now = func() time.Time { return j.clock }
	model, devices := fixture(t)
	j.apply(devices[0], false) // before its model, as it may come
	j.apply(model, false)
	j.sync()
	return j
}

func (j *joined) at(d time.Duration) *View {
	j.clock = t0().Add(d)
	j.age()
	v, _ := j.view(boilerID())
	return v
}

func (j *joined) desire(t *testing.T, property, value string, meta map[string]string) {
	_, devices := fixture(t)
	d := devices[0]
	for i := range d.Spec.Properties {
		if d.Spec.Properties[i].Name == property {
			d.Spec.Properties[i].Desired.Value = value
			d.Spec.Properties[i].Desired.Metadata = meta
		}
	}
	j.apply(d, false)
}

func (j *joined) report(state string, at time.Time, values map[string]string) {
	j.apply(status(boilerID(), state, at, values), false)
}

func property(t *testing.T, v *View, name string) *PropertyView {
	t.Helper()
	p, ok := v.Property(name)
	require.True(t, ok, name)
	return p
}

func TestAViewSaysWhatIsDeclared(t *testing.T) {
	v := newJoined(t).at(0)
	require.Equal(t, boilerID(), v.ID)
	require.Equal(t, []string{"edge-a", "modbus", "thermostat"}, []string{v.Node, v.Protocol, v.Model})
	require.Equal(t, Unknown, v.State)
	require.Nil(t, v.LastSeen)
	require.Empty(t, v.Problems)
	p := property(t, v, "setpoint")
	require.True(t, p.Writable)
	require.Equal(t, "°C", p.Unit)
	require.Equal(t, "35", p.Maximum.Text())
	require.Nil(t, p.Reported)
	require.Nil(t, p.Desired)
	require.Equal(t, NoDesired, p.Sync.State)
	_, listed := v.Property("level")
	require.False(t, listed, "the Device does not list it")
}

func TestTheFirstReportThatCloudCoreLosesIsNoReport(t *testing.T) {
	j := newJoined(t)
	s := status(boilerID(), "", t0(), map[string]string{"mode": ""})
	s.Status.Twins[0].Reported.Metadata = nil
	j.apply(s, false)
	require.Nil(t, property(t, j.at(0), "mode").Reported)
}

func TestStatesAndSilence(t *testing.T) {
	values := map[string]string{"temperature": "20.5"}
	for _, c := range []struct {
		name, state string
		after       time.Duration
		values      map[string]string
		want        State
	}{
		{"online", "online", time.Minute, values, Online},
		{"ok is online", "ok", time.Minute, values, Online},
		{"case does not count", "ONLINE", time.Minute, values, Online},
		{"offline", "offline", time.Minute, values, Offline},
		{"offline stays offline", "offline", time.Hour, values, Offline},
		{"unhealthy", "unhealthy", time.Minute, values, Unhealthy},
		{"online until the bound of states", "online", 3 * time.Minute, values, Online},
		{"stale beyond it", "online", 3*time.Minute + time.Second, values, Stale},
		{"unhealthy and silent", "unhealthy", time.Hour, values, Stale},
		{"twins without a state", "", 5 * time.Minute, values, Online},
		{"twins without a state, silent", "", 5*time.Minute + time.Second, values, Stale},
		{"nothing", "", time.Hour, nil, Unknown},
		{"unknown", "unknown", time.Minute, nil, Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJoined(t)
			j.report(c.state, t0(), c.values)
			require.Equal(t, c.want, j.at(c.after).State)
		})
	}
}

func TestASilentPropertyIsStale(t *testing.T) {
	j := newJoined(t)
	j.report("online", t0(), map[string]string{"temperature": "20.5", "mode": "eco"})
	j.at(4 * time.Minute)
	s := status(boilerID(), "online", t0().Add(4*time.Minute), map[string]string{"temperature": "20.5"})
	s.Status.Twins = append(s.Status.Twins, status(boilerID(), "", t0(), map[string]string{"mode": "eco"}).Status.Twins...)
	j.apply(s, false)
	v := j.at(6 * time.Minute)
	require.False(t, property(t, v, "temperature").Reported.Stale)
	require.True(t, property(t, v, "mode").Reported.Stale)
	require.Equal(t, Online, v.State, "its state is heard")
}

func TestSilenceIsMeasuredByTheCloudsClock(t *testing.T) {
	for _, wrong := range []time.Duration{-10 * time.Hour, 10 * time.Hour} {
		j := newJoined(t)
		j.report("online", t0().Add(wrong), map[string]string{"temperature": "20"})
		j.at(time.Second)
		j.report("online", t0().Add(wrong+time.Second), map[string]string{"temperature": "21"})
		require.Equal(t, Online, j.at(3*time.Minute).State, "clock wrong by %s", wrong)
		require.Equal(t, Stale, j.at(6*time.Minute).State, "clock wrong by %s", wrong)
	}
}

func TestALongReportCycleIsNoSilence(t *testing.T) {
	j := newJoined(t)
	_, devices := fixture(t)
	d := devices[0]
	d.Spec.Properties[0].CollectCycle = 600_000
	d.Spec.Properties[0].ReportCycle = 600_000
	j.apply(d, false)
	j.report("", t0(), map[string]string{"temperature": "20"})
	v := j.at(30 * time.Minute)
	require.False(t, property(t, v, "temperature").Reported.Stale)
	require.Equal(t, Online, v.State)
	v = j.at(30*time.Minute + time.Second)
	require.True(t, property(t, v, "temperature").Reported.Stale)
	require.Equal(t, Stale, v.State)
}

func TestSync(t *testing.T) {
	reported := map[string]string{"setpoint": "21.5", "mode": "eco", "enabled": "true"}
	for _, c := range []struct {
		name, property, desired string
		after                   time.Duration
		want                    SyncState
		reason                  string
	}{
		{"equal", "setpoint", "21.5", 0, InSync, ""},
		{"equal as a number", "setpoint", "21.50", time.Hour, InSync, ""},
		{"equal in single precision", "setpoint", "21.5000001", time.Hour, InSync, ""},
		{"pending", "setpoint", "22", 10 * time.Second, Pending, "not seen on the device yet"},
		{"overdue", "setpoint", "22", time.Minute, Overdue, "may have refused"},
		{"overdue and silent", "setpoint", "22", time.Hour, Overdue, "nothing is heard"},
		{"out of range", "setpoint", "99", time.Hour, Invalid, "above the maximum 35"},
		{"no number", "setpoint", "warm", 0, Invalid, "not a finite number"},
		{"text", "mode", "eco", 0, InSync, ""},
		{"boolean", "enabled", "1", 0, InSync, ""},
		{"other boolean", "enabled", "false", 0, Pending, "not seen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJoined(t)
			j.report("online", t0(), reported)
			j.desire(t, c.property, c.desired, nil)
			p := property(t, j.at(c.after), c.property)
			require.Equal(t, c.want, p.Sync.State)
			require.Contains(t, p.Sync.Reason, c.reason)
			require.Equal(t, c.desired, p.Desired.Text)
			if c.want == Pending || c.want == Overdue {
				require.Equal(t, t0(), *p.Sync.Since)
			} else {
				require.Nil(t, p.Sync.Since)
			}
		})
	}
}

func TestOverdueOfAPropertyNeverReported(t *testing.T) {
	j := newJoined(t)
	j.desire(t, "setpoint", "22", nil)
	require.Contains(t, property(t, j.at(time.Minute), "setpoint").Sync.Reason, "never reported")
}

func TestPendingSince(t *testing.T) {
	stamp := func(d time.Duration) map[string]string {
		s := status(boilerID(), "", t0().Add(d), map[string]string{"x": "1"})
		return s.Status.Twins[0].Reported.Metadata
	}
	since := func(v *View) time.Duration { return property(t, v, "setpoint").Sync.Since.Sub(t0()) }
	j := newJoined(t)
	j.desire(t, "setpoint", "22", stamp(-time.Hour))
	require.Equal(t, -time.Hour, since(j.at(0)), "as noted when it was set, before this process")
	j.at(time.Minute)
	j.desire(t, "setpoint", "23", stamp(-time.Hour))
	require.Equal(t, time.Minute, since(j.at(time.Minute)), "kubectl changed the value and left the old note")
	j.at(2 * time.Minute)
	j.desire(t, "setpoint", "24", stamp(90*time.Second))
	require.Equal(t, 90*time.Second, since(j.at(2*time.Minute)), "noted anew")
	j.report("online", j.clock, map[string]string{"setpoint": "24"})
	require.Equal(t, InSync, property(t, j.at(3*time.Minute), "setpoint").Sync.State)
	j.report("online", j.clock, map[string]string{"setpoint": "19"})
	require.Equal(t, 3*time.Minute, since(j.at(3*time.Minute))+0, "drifted away from it later")
}

func TestABadReportHasNoValue(t *testing.T) {
	j := newJoined(t)
	j.desire(t, "setpoint", "22", nil)
	j.report("online", t0(), map[string]string{"setpoint": "??"})
	p := property(t, j.at(time.Minute), "setpoint")
	require.Equal(t, twin.Bad("text"), p.Reported.Quality)
	require.True(t, p.Reported.Value.IsZero())
	require.Contains(t, p.Sync.Reason, "cannot be read (bad:text)")
}

func TestADeviceWithoutItsModelIsShownWithItsProblem(t *testing.T) {
	j := newJoined(t)
	model, _ := fixture(t)
	j.apply(model, true)
	v := j.at(0)
	require.Empty(t, v.Properties)
	require.NotEmpty(t, v.Problems)
	require.Equal(t, "modbus", v.Protocol)
	j.apply(model, false)
	require.Len(t, j.at(0).Properties, 4)
}

func TestAnOlderDeviceDoesNotOverwriteANewerOne(t *testing.T) {
	j := newJoined(t)
	_, devices := fixture(t)
	newer := devices[0].DeepCopy()
	newer.Generation = 7
	newer.Spec.Properties[1].Desired.Value = "22"
	j.apply(newer, false)
	older := devices[0].DeepCopy()
	older.Generation = 6
	j.apply(older, false)
	require.NotNil(t, property(t, j.at(0), "setpoint").Desired)
	older.UID = "another life"
	j.apply(older, false)
	require.Nil(t, property(t, j.at(0), "setpoint").Desired)
}

func TestAStatusMayComeBeforeItsDevice(t *testing.T) {
	j := newJoined(t)
	_, devices := fixture(t)
	j.apply(devices[0], true)
	_, ok := j.view(boilerID())
	require.False(t, ok)
	j.report("online", t0(), map[string]string{"temperature": "20.5"})
	j.apply(devices[0], false)
	require.Equal(t, "20.5", property(t, j.at(0), "temperature").Reported.Value.Text())
}
