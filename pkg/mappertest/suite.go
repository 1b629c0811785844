package mappertest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// Patience is how long the Suite waits before it calls something hung. It
// bounds failures only: nothing that works waits for it.
const Patience = 20 * time.Second

// Suite is the conformance suite of mapper.Driver. Fill it in and call Run; put
// goleak into the package's TestMain, so that a Close that leaves
// goroutines behind fails too. New, Device, Change, Break and Mend are needed; where one of the
// others is nil, the tests that need it are not part of the suite.
type Suite struct {
	// New returns a driver for one test.
	New func(t *testing.T) mapper.Driver

	// Device starts a simulated device for one test and returns its declaration:
	// two or more properties, each with a value, one or more of them Writable. Each call is
	// another device with its own DeviceID.
	Device func(t *testing.T) twin.Device

	// Change gives a property of a device a value behind the driver's back.
	Change func(t *testing.T, device twin.Device, property string, v twin.Value)

	// Break makes a device unreachable; Mend ends that, and Hang.
	Break, Mend func(t *testing.T, device twin.Device)

	// Hang makes a device accept requests and not answer them.
	Hang func(t *testing.T, device twin.Device)

	// Refuse makes a device refuse every write of a property.
	Refuse func(t *testing.T, device twin.Device, property string)

	// Requests returns how many requests all devices have got, to prove that Open does no I/O.
	Requests func() int

	// Values returns two different values that a property can hold and show
	// exactly. Nil: chosen by the property's type and range.
	Values func(p twin.Property) (a, b twin.Value)

	// Speaks says that the devices say their values by themselves, and repeat them
	// every few milliseconds. Change returns then when the driver has what the device said of it.
	Speaks bool

	// Mistakes are declarations that Open must find fault with.
	Mistakes []Mistake
}

// Mistake is a declaration with mistakes.
type Mistake struct {
	Name     string
	Device   func(t *testing.T) twin.Device
	Problems int      // how many mistakes there are, each to be one Problem; zero: one or more
	Refused  []string // the properties that are refused; the others must work
	Whole    bool     // nothing of the device can be served
}

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("open", s.testOpen)
	t.Run("mistakes", s.testMistakes)
	t.Run("read", s.testRead)
	t.Run("read is never old", s.testFresh)
	t.Run("unknown property", s.testUnknown)
	t.Run("write", s.testWrite)
	t.Run("write during read", s.testWriteDuringRead)
	t.Run("many devices at once", s.testMany)
	t.Run("open again", s.testReopen)
	t.Run("unreachable", s.testUnreachable)
	t.Run("ended context", s.testEndedContext)
	if s.Hang != nil {
		t.Run("context ends during a read", s.testHang)
	}
	if s.Refuse != nil {
		t.Run("refused write", s.testRefused)
	}
}

// open opens a device that has no mistake; it is closed at the end of the test.
func (s Suite) open(t *testing.T, driver mapper.Driver, d twin.Device) mapper.Conn {
	t.Helper()
	conn, problems := driver.Open(d)
	require.Empty(t, problems, "a device without mistakes has no problems")
	require.NotNil(t, conn)
	t.Cleanup(func() { within(t, "Close", func() { require.NoError(t, conn.Close()) }) })
	return conn
}

func (s Suite) testOpen(t *testing.T) {
	driver, d := s.New(t), s.Device(t)
	require.NotEmpty(t, driver.Protocol())
	require.Equal(t, strings.ToLower(driver.Protocol()), driver.Protocol(), "Protocol is in lower case")
	require.GreaterOrEqual(t, len(d.Properties), 2, "Suite.Device has two or more properties")
	s.Break(t, d)
	before := s.requests()
	s.open(t, driver, d) // though it cannot be reached
	require.Equal(t, before, s.requests(), "Open does no I/O")
}

func (s Suite) requests() int {
	if s.Requests == nil {
		return 0
	}
	return s.Requests()
}

func (s Suite) testMistakes(t *testing.T) {
	for _, m := range s.Mistakes {
		t.Run(m.Name, func(t *testing.T) {
			d := m.Device(t)
			conn, problems := s.New(t).Open(d)
			require.NotEmpty(t, problems)
			if m.Problems > 0 {
				require.Len(t, problems, m.Problems, "each mistake is one problem: %v", problems)
			}
			for _, p := range problems {
				require.NotEmpty(t, p.Object, "%+v", p)
				require.NotEmpty(t, p.Field, "%+v", p)
				require.NotEmpty(t, p.What, "%+v", p)
				require.NotEmpty(t, p.Remedy, "%+v", p)
			}
			if m.Whole {
				require.Nil(t, conn, "nothing of the device can be served")
				return
			}
			require.NotNil(t, conn, "one mistake must not stop the other properties")
			defer func() { require.NoError(t, conn.Close()) }()
			refused := map[string]bool{}
			for _, name := range m.Refused {
				refused[name] = true
			}
			for _, r := range s.read(t, conn, d) {
				if refused[r.Property] {
					require.Equal(t, twin.Bad("config"), r.Quality, r.Property)
				} else {
					require.False(t, r.Quality.IsBad(), "%s is %s", r.Property, r.Quality)
				}
			}
		})
	}
}

// read reads all properties and checks the form of the answer.
func (s Suite) read(t *testing.T, conn mapper.Conn, d twin.Device) []twin.Reading {
	t.Helper()
	names := make([]string, len(d.Properties))
	for i := range d.Properties {
		names[i] = d.Properties[i].Name
	}
	readings := s.readNames(t, conn, names)
	for i := range readings {
		if readings[i].Quality == mapper.NothingNew {
			readings[i] = s.said(t, func() twin.Reading { return s.readNames(t, conn, names[i:i+1])[0] })
		}
	}
	return readings
}

func (s Suite) readNames(t *testing.T, conn mapper.Conn, names []string) (readings []twin.Reading) {
	t.Helper()
	within(t, "Read", func() {
		var err error
		readings, err = conn.Read(t.Context(), names)
		require.NoError(t, err)
	})
	require.Len(t, readings, len(names), "one reading for each property")
	for i, r := range readings {
		require.Equal(t, names[i], r.Property, "readings come in the order of the names")
		if r.Quality == mapper.NothingNew {
			require.True(t, s.Speaks, "%s is NothingNew, but the device does not speak by itself", r.Property)
			require.True(t, r.Value.IsZero(), "%s: a value that is nothing new", r.Property)
			continue
		}
		require.True(t, s.Speaks || r.Time.IsZero(), "%s has a Time, but the device does not speak by itself", r.Property)
		require.True(t, r.Quality.Valid(), "%s has quality %q", r.Property, r.Quality)
		require.Equal(t, r.Quality.IsBad(), r.Value.IsZero(), "%s: a value exactly where the quality is not bad, got %s with %q", r.Property, r.Value, r.Quality)
	}
	return readings
}

// one reads one property, which must not be bad.
func (s Suite) one(t *testing.T, conn mapper.Conn, name string) twin.Value {
	t.Helper()
	r := s.said(t, func() twin.Reading { return s.readNames(t, conn, []string{name})[0] })
	require.False(t, r.Quality.IsBad(), "%s is %s", name, r.Quality)
	return r.Value
}

// said repeats read until it brings something: what a device says by itself comes when it likes.
func (s Suite) said(t *testing.T, read func() twin.Reading) (r twin.Reading) {
	t.Helper()
	require.Eventually(t, func() bool {
		r = read()
		return r.Quality != mapper.NothingNew
	}, Patience, time.Millisecond, "the device says something")
	return r
}

func (s Suite) testRead(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	for _, r := range s.read(t, conn, d) {
		p, _ := d.Property(r.Property)
		require.False(t, r.Quality.IsBad(), "%s is %s", r.Property, r.Quality)
		v, err := twin.ParseValue(p.Type, r.Value.Text())
		require.NoError(t, err)
		require.Equal(t, v.Kind(), r.Value.Kind(), "%s has a value of its type %s", p.Name, p.Type)
	}
	backwards := []string{d.Properties[1].Name, d.Properties[0].Name}
	s.readNames(t, conn, backwards)
	require.Empty(t, s.readNames(t, conn, nil), "no names, no readings")
}

// rounds is how often a race is given its chance.
const rounds = 25

func (s Suite) testFresh(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	for _, p := range d.Properties {
		a, b := s.values(p)
		for i := range rounds {
			v := a
			if i%2 == 1 {
				v = b
			}
			s.Change(t, d, p.Name, v)
			require.True(t, v.Equal(s.one(t, conn, p.Name)), "%s is never older than the call of Read", p.Name)
		}
	}
}

func (s Suite) testUnknown(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	r := s.readNames(t, conn, []string{"no-such-property", d.Properties[0].Name})
	require.Equal(t, twin.Bad("config"), r[0].Quality)
	require.False(t, r[1].Quality.IsBad(), "its neighbour is read all the same")
	_, err := conn.Write(t.Context(), "no-such-property", twin.IntValue(1))
	require.Error(t, err)
	require.True(t, mapper.Rejected(err), "a write of it is rejected")
}

func (s Suite) testWrite(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	written := 0
	for _, p := range d.Properties {
		if !p.Writable {
			continue
		}
		written++
		a, b := s.values(p)
		for _, v := range []twin.Value{a, b, a} {
			shown, err := conn.Write(t.Context(), p.Name, v)
			require.NoError(t, err)
			require.True(t, shown.Equal(v), "%s can hold %s, Write returned %s", p.Name, v, shown)
			s.requireShows(t, conn, p.Name, shown)
		}
	}
	require.Positive(t, written, "Suite.Device has a writable property")
}

// requireShows reads until the property shows want: a device may take its time.
func (s Suite) requireShows(t *testing.T, conn mapper.Conn, name string, want twin.Value) {
	t.Helper()
	var got twin.Value
	require.Eventually(t, func() bool {
		got = s.one(t, conn, name)
		return got.Equal(want)
	}, Patience, time.Millisecond, "%s shows what Write returned", name)
}

func (s Suite) testWriteDuringRead(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	p := writable(t, d)
	a, b := s.values(p)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if r, err := conn.Read(t.Context(), []string{p.Name}); err != nil || len(r) != 1 || r[0].Property != p.Name {
				t.Errorf("read during writes: %v, %v", r, err)
				return
			}
		}
	})
	for i := range rounds {
		v := a
		if i%2 == 1 {
			v = b
		}
		_, err := conn.Write(t.Context(), p.Name, v)
		require.NoError(t, err)
	}
	close(stop)
	wg.Wait()
	s.requireShows(t, conn, p.Name, a) // rounds is odd
}

func (s Suite) testMany(t *testing.T) {
	driver := s.New(t)
	const many = 16
	devices := make([]twin.Device, many)
	for i := range devices {
		devices[i] = s.Device(t)
	}
	var wg sync.WaitGroup
	for i, d := range devices {
		wg.Go(func() {
			for range 3 {
				conn, problems := driver.Open(d)
				if conn == nil || len(problems) > 0 {
					t.Errorf("open device %d: %v", i, problems)
					return
				}
				if _, err := conn.Read(t.Context(), []string{d.Properties[0].Name}); err != nil {
					t.Errorf("read device %d: %v", i, err)
				}
				if err := conn.Close(); err != nil {
					t.Errorf("close device %d: %v", i, err)
				}
			}
		})
	}
	within(t, "opening and closing many devices", wg.Wait)
}

func (s Suite) testReopen(t *testing.T) {
	driver, d := s.New(t), s.Device(t)
	for range 3 {
		conn, problems := driver.Open(d)
		require.Empty(t, problems)
		s.read(t, conn, d)
		within(t, "Close", func() { require.NoError(t, conn.Close()) })
	}
	conn, _ := driver.Open(d)
	within(t, "Close of a device that was never read", func() { require.NoError(t, conn.Close()) })
}

func (s Suite) testUnreachable(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	name := d.Properties[0].Name
	s.one(t, conn, name)
	s.Break(t, d)
	within(t, "Read of an unreachable device", func() {
		_, err := conn.Read(t.Context(), []string{name})
		for s.Speaks && err == nil { // what it said before may still be on its way
			_, err = conn.Read(t.Context(), []string{name})
		}
		require.Error(t, err, "a device that does not answer at all is an error")
		require.True(t, twin.Bad(mapper.Reason(err)).Valid(), "the Reason %q fits a quality", mapper.Reason(err))
		require.NotEqual(t, "error", mapper.Reason(err), "the error says why: wrap it in a mapper.Fault")
	})
	p := writable(t, d)
	v, _ := s.values(p)
	within(t, "Write to an unreachable device", func() {
		_, err := conn.Write(t.Context(), p.Name, v)
		require.Error(t, err)
		require.False(t, mapper.Rejected(err), "it may be tried again")
	})
	s.Mend(t, d)
	require.Eventually(t, func() bool {
		_, err := conn.Read(t.Context(), []string{name})
		return err == nil
	}, Patience, 10*time.Millisecond, "the device comes back by itself")
	s.one(t, conn, name)
}

func (s Suite) testEndedContext(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	within(t, "Read with an ended context", func() {
		_, err := conn.Read(ctx, []string{d.Properties[0].Name})
		require.Error(t, err)
	})
	s.one(t, conn, d.Properties[0].Name) // and it does no harm
}

func (s Suite) testHang(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	s.Hang(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(ctx, []string{d.Properties[0].Name})
		for s.Speaks && err == nil { // what it said before may still be on its way
			_, err = conn.Read(ctx, []string{d.Properties[0].Name})
		}
		ended <- err
	}()
	cancel()
	within(t, "Read after its context ended", func() { require.Error(t, <-ended) })
	s.Mend(t, d)
	require.Eventually(t, func() bool {
		_, err := conn.Read(t.Context(), []string{d.Properties[0].Name})
		return err == nil
	}, Patience, 10*time.Millisecond, "the device comes back by itself")
}

func (s Suite) testRefused(t *testing.T) {
	d := s.Device(t)
	conn := s.open(t, s.New(t), d)
	p := writable(t, d)
	a, b := s.values(p)
	s.Change(t, d, p.Name, a)
	s.Refuse(t, d, p.Name)
	_, err := conn.Write(t.Context(), p.Name, b)
	require.Error(t, err)
	require.True(t, mapper.Rejected(err), "what the device refuses is rejected: %v", err)
	require.True(t, a.Equal(s.one(t, conn, p.Name)))
}

func writable(t *testing.T, d twin.Device) twin.Property {
	t.Helper()
	for _, p := range d.Properties {
		if p.Writable {
			return p
		}
	}
	require.Fail(t, "Suite.Device has no writable property")
	return twin.Property{}
}

func (s Suite) values(p twin.Property) (a, b twin.Value) {
	if s.Values != nil {
		return s.Values(p)
	}
	return Values(p)
}

// Values returns two different values of a property's type, within its range
// where that has room for 1 and 2 or for the bounds themselves.
func Values(p twin.Property) (a, b twin.Value) {
	switch p.Type {
	case twin.TypeBoolean:
		return twin.BoolValue(true), twin.BoolValue(false)
	case twin.TypeString:
		return twin.StringValue("a"), twin.StringValue("b")
	case twin.TypeBytes:
		return twin.StringValue("AQ=="), twin.StringValue("Ag==")
	}
	pick := func(n int64, bound twin.Value) twin.Value {
		v, err := p.Coerce(twin.IntValue(n))
		if err != nil {
			v, _ = p.Coerce(bound)
		}
		return v
	}
	return pick(1, p.Minimum), pick(2, p.Maximum)
}

// within fails the test if do does not return within Patience.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	watchdog := time.AfterFunc(Patience, func() { panic(fmt.Sprintf("%s: %s did not return within %s", t.Name(), what, Patience)) })
	defer watchdog.Stop()
	do()
}
