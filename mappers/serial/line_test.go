package serial

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

func open(t *testing.T, driver *Driver, d twin.Device) *conn {
	t.Helper()
	opened, problems := driver.Open(d)
	require.Empty(t, problems)
	t.Cleanup(func() { require.NoError(t, opened.Close()) })
	return opened.(*conn)
}

// peer is the far end of a line, played by the test.
type peer struct {
	t   *testing.T
	far *os.File
	url string
	in  chan string // lines that came
}

// newPeer returns a peer on a pseudo terminal.
func newPeer(t *testing.T) *peer { return makePeer(t, false) }

// makePeer returns one that may be deaf: a terminal that is read cannot be closed.
func makePeer(t *testing.T, deaf bool) *peer {
	t.Helper()
	far, near, err := pty.Open()
	require.NoError(t, err)
	p := &peer{t: t, far: far, url: "serial://" + near.Name(), in: make(chan string, 64)}
	var reading sync.WaitGroup
	reading.Go(func() {
		if deaf {
			return
		}
		buf, line := make([]byte, 256), ""
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			for _, b := range string(buf[:n]) {
				if line += string(b); b == '\n' {
					p.in <- strings.TrimSpace(line)
					line = ""
				}
			}
		}
	})
	t.Cleanup(func() { _ = far.Close(); _ = near.Close(); reading.Wait() })
	return p
}

func (p *peer) say(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.far, text)
	require.NoError(p.t, err)
}

// hears waits for the next line.
func (p *peer) hears(want string) {
	p.t.Helper()
	select {
	case got := <-p.in:
		require.Equal(p.t, want, got)
	case <-time.After(20 * time.Second):
		require.Fail(p.t, "the peer hears nothing", "want %q", want)
	}
}

// hearsNothing says that nothing came so far.
func (p *peer) hearsNothing() {
	p.t.Helper()
	select {
	case got := <-p.in:
		require.Fail(p.t, "the peer hears something", "%q", got)
	default:
	}
}

type result struct {
	readings []twin.Reading
	err      error
}

// reads begins a Read.
func reads(c *conn, names ...string) <-chan result {
	done := make(chan result, 1)
	go func() {
		readings, err := c.Read(context.Background(), names)
		done <- result{readings, err}
	}()
	return done
}

// asked declares a device that is asked for a and b, whose answers look alike.
func asked(name, url string, config map[string]any) twin.Device {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "serial", Config: map[string]any{
		"url": url, "timeout": "10s", "retries": 0,
		"requests": map[string]any{"a": map[string]any{"send": "A?"}, "b": map[string]any{"send": "B?"}},
	}}
	for key, v := range config {
		d.Config[key] = v
	}
	for _, p := range []string{"a", "b"} {
		d.Properties = append(d.Properties, twin.Property{Name: p, Type: twin.TypeInt, Visitor: map[string]any{"request": p, "regex": `^(\d+)$`}})
	}
	return d
}

// spoken declares a device that says t and h by itself.
func spoken(name, url string, config map[string]any) twin.Device {
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "serial", Config: map[string]any{"url": url, "timeout": "2s"}}
	for key, v := range config {
		d.Config[key] = v
	}
	for _, p := range []string{"t", "h"} {
		d.Properties = append(d.Properties, twin.Property{Name: p, Type: twin.TypeDouble, Visitor: map[string]any{"name": p}})
	}
	return d
}

func TestALateAnswerIsNotTakenForTheNextOnes(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), asked("d", p.url, map[string]any{"timeout": "1s", "recovery": "1s"}))
	first := reads(c, "a")
	p.hears("A?")
	require.Equal(t, "timeout", mapper.Reason((<-first).err))
	second := reads(c, "b")
	p.say("111\n") // the answer to A?
	p.hears("B?")  // after the recovery
	p.say("222\n")
	r := <-second
	require.NoError(t, r.err)
	require.Equal(t, twin.IntValue(222), r.readings[0].Value)
	var late uint64
	c.driver.lines.Each(func(_ string, _ link.Stats, port *serial.Port, _ bool) { late = port.Counters().Late.Load() })
	require.EqualValues(t, 1, late)
}

func TestRecoveryGrowsWithTheLatenessThatIsSeen(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), asked("d", p.url, map[string]any{"timeout": "500ms"}))
	first := reads(c, "a")
	p.hears("A?")
	require.Error(t, (<-first).err)
	p.say("1\n") // late
	began := time.Now()
	second := reads(c, "a")
	p.hears("A?")
	require.Error(t, (<-second).err)
	third := reads(c, "a")
	p.hears("A?")
	p.say("2\n")
	require.Equal(t, twin.IntValue(2), (<-third).readings[0].Value)
	require.GreaterOrEqual(t, time.Since(began), 1500*time.Millisecond, "a recovery of 500 ms, a timeout, and a recovery of twice the lateness")
}

func TestNoiseAndSplitFramesGiveNoWrongValue(t *testing.T) {
	p := newPeer(t)
	framing := map[string]any{"kind": "between", "start": `\x02`, "end": `\x03`, "after": 1}
	d := asked("d", p.url, map[string]any{"framing": framing, "check": map[string]any{"kind": "xor8", "from": 1}, "timeout": "5s"})
	d.Config["requests"] = map[string]any{"a": map[string]any{"send": `A?\n`, "raw": true}, "b": map[string]any{"send": `B?\n`, "raw": true}}
	c := open(t, New(), d)
	frame := func(text string) string {
		sum := byte(0)
		for _, b := range []byte(text + "\x03") {
			sum ^= b
		}
		return "\x02" + text + "\x03" + string(sum)
	}
	broken := []byte(frame("666"))
	broken[len(broken)-1] ^= 0x40
	for _, said := range [][]string{
		{frame("123")},
		{"noise\x03\x02", frame("123")},
		{string(broken), frame("123")},
		{"\x0266", frame("123")}, // one that was cut off
		{"\x02q\x02bb\x02ccc", frame("123")},
		strings.Split(frame("123"), ""), // a byte at a time
	} {
		got := reads(c, "a")
		p.hears("A?")
		for _, part := range said {
			p.say(part)
		}
		r := <-got
		require.NoError(t, r.err, "%q", said)
		require.Equal(t, twin.IntValue(123), r.readings[0].Value, "%q", said)
	}
}

func TestDevicesShareALineByTheirAddress(t *testing.T) {
	i := newInstrument(false)
	i.prompt = func(q string) (string, bool) {
		address, verb, _ := strings.Cut(q, " ")
		if address == "#3" {
			return "", true // dead
		}
		return fmt.Sprintf("%s=%s%s", address, strings.TrimPrefix(address, "#"), map[string]string{"A?": "1", "B?": "2"}[verb]), true
	}
	url := "serial://" + i.onPTY(t)
	driver := New()
	devices := map[string]*conn{}
	for _, address := range []string{"1", "2", "3"} {
		d := asked("d"+address, url, map[string]any{"values": map[string]any{"address": address}, "timeout": "500ms"})
		d.Config["requests"] = map[string]any{
			"a": map[string]any{"send": "#${address} A?", "reply": map[string]any{"prefix": "#${address}="}},
			"b": map[string]any{"send": "#${address} B?", "reply": map[string]any{"prefix": "#${address}="}},
		}
		for k := range d.Properties {
			d.Properties[k].Visitor["regex"] = `=(\d+)$`
		}
		devices[address] = open(t, driver, d)
	}
	require.Equal(t, 1, driver.lines.Len())
	var all sync.WaitGroup
	for address, c := range devices {
		all.Go(func() {
			for n := range 20 {
				readings, err := c.Read(t.Context(), []string{"b", "a"})
				if address == "3" {
					if err == nil {
						t.Error("a dead device answers")
					}
					if n == 3 {
						return
					}
					continue
				}
				if err != nil || readings[0].Value.Text() != address+"2" || readings[1].Value.Text() != address+"1" {
					t.Errorf("device %s: %v, %v", address, readings, err)
				}
			}
		})
	}
	all.Wait()
}

func TestTwoSettingsOfALineClashUntilOneIsGone(t *testing.T) {
	i := newInstrument(false)
	i.prompt = func(string) (string, bool) { return "5", true }
	path := i.onPTY(t)
	driver := New()
	first := open(t, driver, asked("first", "serial://"+path, nil))
	opened, problems := driver.Open(asked("second", "serial://"+path+"?baud=300", nil))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Error(), "another device uses this line")
	_, err := opened.Read(t.Context(), []string{"a"})
	require.Equal(t, "conflict", mapper.Reason(err))
	_, err = first.Read(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.NoError(t, opened.Close())
}

func TestUnpluggedAndReplugged(t *testing.T) {
	link := filepath.Join(t.TempDir(), "usb-meter")
	one := makePeer(t, true)
	require.NoError(t, os.Symlink(strings.TrimPrefix(one.url, "serial://"), link))
	c := open(t, New(), spoken("d", "serial://"+link, map[string]any{"silence": "30s"}))
	got := reads(c, "t")
	stop := one.repeat("t=1\n")
	require.Equal(t, twin.FloatValue(1), (<-got).readings[0].Value)
	stop()
	require.NoError(t, os.Remove(link))
	require.NoError(t, one.far.Close()) // pulled out
	require.Eventually(t, func() bool {
		_, err := c.Read(t.Context(), []string{"t"})
		return err != nil && mapper.Reason(err) == "connection"
	}, 20*time.Second, time.Millisecond, "it is offline")
	two := makePeer(t, true)
	require.NoError(t, os.Symlink(strings.TrimPrefix(two.url, "serial://"), link))
	defer two.repeat("t=2\n")()
	require.Eventually(t, func() bool {
		readings, err := c.Read(t.Context(), []string{"t"})
		return err == nil && readings[0].Value.Equal(twin.FloatValue(2))
	}, 20*time.Second, 10*time.Millisecond, "it comes back under another number")
}

// repeat says text every few milliseconds until the returned function is called.
func (p *peer) repeat(text string) (stop func()) {
	done := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		tick := time.NewTicker(sayEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = io.WriteString(p.far, text)
			case <-done:
				return
			}
		}
	})
	return func() { close(done); saying.Wait() }
}

func TestInitIsSentWhenThePortOpensAndWhenTheDeviceReturns(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), asked("d", p.url, map[string]any{"timeout": "1s", "recovery": 0, "init": []any{map[string]any{"send": "HELLO", "reply": map[string]any{"none": true}}}}))
	got := reads(c, "a")
	p.hears("HELLO")
	p.hears("A?")
	p.say("1\n")
	require.NoError(t, (<-got).err)
	got = reads(c, "a")
	p.hears("A?")
	require.Error(t, (<-got).err) // it was silent
	got = reads(c, "a")
	p.hears("HELLO")
	p.hears("A?")
	p.say("2\n")
	require.Equal(t, twin.IntValue(2), (<-got).readings[0].Value)
	got = reads(c, "a")
	p.hears("A?")
	p.say("3\n")
	require.NoError(t, (<-got).err)
	p.hearsNothing()
}

func TestInitIsSentAgainToADeviceThatFellSilent(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), spoken("d", p.url, map[string]any{"silence": "200ms", "init": []any{map[string]any{"send": "TALK", "reply": map[string]any{"none": true}}}}))
	got := reads(c, "t")
	p.hears("TALK")
	p.say("cut\nt=1 h=2\n")
	require.Equal(t, twin.FloatValue(1), (<-got).readings[0].Value)
	for spoke := 2; spoke < 5; spoke++ { // the instrument alone was switched off and on
		require.Eventually(t, func() bool {
			<-reads(c, "t")
			select {
			case got := <-p.in:
				return got == "TALK"
			default:
				return false
			}
		}, 20*time.Second, 5*time.Millisecond)
		p.say(fmt.Sprintf("t=%d h=2\n", spoke))
		require.Eventually(t, func() bool {
			r := <-reads(c, "t")
			return r.err == nil && r.readings[0].Value.Equal(twin.FloatValue(float64(spoke)))
		}, 20*time.Second, time.Millisecond)
	}
}

func TestWhatTheLineRepeatsIsTakenOff(t *testing.T) {
	p := newPeer(t)
	d := asked("d", p.url, map[string]any{"echo": true})
	d.Properties[0].Visitor["regex"] = "(.*)"
	d.Properties[0].Type = twin.TypeString
	c := open(t, New(), d)
	got := reads(c, "a")
	p.hears("A?")
	p.say("A?\n42\n")
	require.Equal(t, twin.StringValue("42"), (<-got).readings[0].Value)
}

func TestStaleIsSaidAfterASilenceAndNothingIsRepeated(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), spoken("d", p.url, map[string]any{"silence": "200ms"}))
	got := reads(c, "t", "h")
	time.AfterFunc(5*time.Millisecond, func() { _, _ = io.WriteString(p.far, "cut\nt=1 h=2\n") })
	r := <-got
	require.Equal(t, twin.FloatValue(1), r.readings[0].Value)
	require.Equal(t, twin.FloatValue(2), r.readings[1].Value)
	require.False(t, r.readings[0].Time.IsZero())
	r = <-reads(c, "t", "h")
	require.Equal(t, mapper.NothingNew, r.readings[0].Quality)
	stop := p.repeat("t=3\n")
	require.Eventually(t, func() bool {
		r := <-reads(c, "h")
		return r.err != nil && mapper.Reason(r.err) == "stale"
	}, 20*time.Second, 5*time.Millisecond, "one kind of telegram is missing")
	r = <-reads(c, "t", "h")
	require.NoError(t, r.err, "the other comes")
	require.Equal(t, twin.Bad("stale"), r.readings[1].Quality)
	stop()
	require.Eventually(t, func() bool { return (<-reads(c, "t", "h")).err != nil }, 20*time.Second, 5*time.Millisecond, "nothing comes")
}

// Whoever opens a line in the middle of "20.5" must not read 0.5.
func TestTheFirstLineMayBeCutAndIsNotBelieved(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), spoken("d", p.url, nil))
	got := reads(c, "t")
	time.AfterFunc(50*time.Millisecond, func() { _, _ = io.WriteString(p.far, "t=0.5\nt=20.5\n") })
	require.Equal(t, twin.FloatValue(20.5), (<-got).readings[0].Value)
}

func TestTheLatestFrameWins(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), spoken("d", p.url, nil))
	got := reads(c, "t")
	defer p.repeat("noise\n")()
	p.say("cut\nt=1\n")
	require.False(t, (<-got).readings[0].Quality.IsBad())
	for i := range 100 {
		p.say(fmt.Sprintf("t=%d\n", i))
	}
	require.Eventually(t, func() bool { return c.hears("t", twin.FloatValue(99)) }, 20*time.Second, time.Millisecond)
	require.Equal(t, twin.FloatValue(99), (<-reads(c, "t")).readings[0].Value)
	require.Equal(t, mapper.NothingNew, (<-reads(c, "t")).readings[0].Quality)
}

func TestSendersShareALine(t *testing.T) {
	p := newPeer(t)
	driver := New()
	conns := map[string]*conn{}
	for _, talker := range []string{"GP", "GN"} {
		d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: strings.ToLower(talker)}, Protocol: "serial", Config: map[string]any{"url": p.url, "profile": "nmea", "sender": talker, "timeout": "5s"}}
		d.Properties = []twin.Property{{Name: "heading", Type: twin.TypeDouble, Visitor: map[string]any{"field": "HDT.heading"}}}
		conns[talker] = open(t, driver, d)
	}
	defer p.repeat("$GPHDT,123.456,T*32\r\n$GNHDT,200.5,T*2C\r\n$GPHDT,999,T*00\r\n")()
	for talker, want := range map[string]float64{"GP": 123.456, "GN": 200.5} {
		var r result
		require.Eventually(t, func() bool {
			r = <-reads(conns[talker], "heading")
			return r.err == nil && r.readings[0].Quality != mapper.NothingNew
		}, 20*time.Second, time.Millisecond)
		require.Equal(t, twin.FloatValue(want), r.readings[0].Value, talker)
	}
}

func TestAnAssumedPropertyShowsWhatWasTaken(t *testing.T) {
	i := newInstrument(false)
	url := "serial://" + i.onPTY(t)
	d := board("d", url, false)
	d.Properties = []twin.Property{{Name: "relay", Type: twin.TypeBoolean, Writable: true, Visitor: map[string]any{
		"enum": map[string]any{"ON": "true", "OFF": "false"}, "write": map[string]any{"send": "W relay ${value}", "assume": true, "reply": map[string]any{"prefix": "OK", "refused": map[string]any{"refused": "^NO"}}},
	}}}
	c := open(t, New(), d)
	require.Equal(t, twin.Bad("unknown"), (<-reads(c, "relay")).readings[0].Quality)
	_, err := c.Write(t.Context(), "relay", twin.BoolValue(true))
	require.NoError(t, err)
	require.Equal(t, twin.BoolValue(true), (<-reads(c, "relay")).readings[0].Value)
	i.with(func() { i.refuses["relay"] = true })
	_, err = c.Write(t.Context(), "relay", twin.BoolValue(false))
	require.True(t, mapper.Rejected(err))
	require.Equal(t, twin.BoolValue(true), (<-reads(c, "relay")).readings[0].Value)
}

func TestRefusedAnswersAreQualitiesAndTheDeviceIsThere(t *testing.T) {
	i := newInstrument(false)
	i.prompt = func(q string) (string, bool) { return map[string]string{"A?": "BUSY", "B?": "5"}[q], true }
	d := asked("d", "serial://"+i.onPTY(t), nil)
	d.Config["requests"].(map[string]any)["a"] = map[string]any{"send": "A?", "reply": map[string]any{"refused": map[string]any{"busy": "^BUSY"}}}
	c := open(t, New(), d)
	r := <-reads(c, "a", "b")
	require.NoError(t, r.err)
	require.Equal(t, twin.Bad("busy"), r.readings[0].Quality)
	require.Equal(t, twin.IntValue(5), r.readings[1].Value)
	r = <-reads(c, "a")
	require.NoError(t, r.err, "a device that says that it is busy is not offline")
}

func TestMetrics(t *testing.T) {
	i := newInstrument(false)
	i.prompt = func(string) (string, bool) { return "5", true }
	driver := New()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(driver))
	c := open(t, driver, asked("d", "serial://"+i.onPTY(t), nil))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 20)
	require.NoError(t, (<-reads(c, "a")).err)
	families, err = registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "twinline_serial_line_requests_total" || f.GetName() == "twinline_serial_line_frames_total" {
			require.InDelta(t, 1, f.GetMetric()[0].GetCounter().GetValue(), 0, f.GetName())
		}
	}
}

func TestAPortThatIsTakenNamesItsOwner(t *testing.T) {
	p := newPeer(t)
	first, second := New(), New() // another process is named by its number, see serialport
	c := open(t, first, asked("first", p.url, nil))
	got := reads(c, "a")
	p.hears("A?")
	p.say("1\n")
	require.NoError(t, (<-got).err)
	_, err := open(t, second, asked("second", p.url, nil)).Read(t.Context(), []string{"a"})
	require.ErrorContains(t, err, "this process has it open already")
	require.Equal(t, "connection", mapper.Reason(err))
}

func TestAnEndlessFrameNeedsBoundedMemory(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), spoken("d", p.url, map[string]any{"framing": map[string]any{"max": 1024}}))
	got := reads(c, "t")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	endless := strings.Repeat("x", 4096)
	for range 1024 { // 4 MiB
		p.say(endless)
	}
	p.say("\nt=1\n")
	require.Eventually(t, func() bool { return c.hears("t", twin.FloatValue(1)) }, 20*time.Second, time.Millisecond, "it finds the next frame")
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(512<<10))
	<-got
	var skipped uint64
	c.driver.lines.Each(func(_ string, _ link.Stats, port *serial.Port, _ bool) { skipped = port.Counters().Skipped.Load() })
	require.GreaterOrEqual(t, skipped, uint64(4<<20))
}

func TestARetryAsksAgain(t *testing.T) {
	i := newInstrument(false)
	asks := 0
	i.prompt = func(string) (string, bool) {
		asks++
		if asks == 1 {
			return "", true
		}
		return "7", true
	}
	c := open(t, New(), asked("d", "serial://"+i.onPTY(t), map[string]any{"retries": 1, "recovery": 0, "timeout": "1s"}))
	r := <-reads(c, "a")
	require.NoError(t, r.err)
	require.Equal(t, twin.IntValue(7), r.readings[0].Value)
}

// A frame that the driver cannot know from an answer, but that began before the question.
func TestWhatCameBeforeTheQuestionIsNoAnswer(t *testing.T) {
	p := newPeer(t)
	c := open(t, New(), asked("d", p.url, nil))
	got := reads(c, "a")
	p.hears("A?")
	p.say("1\n2\n33") // a second frame, and the beginning of a third
	require.Equal(t, twin.IntValue(1), (<-got).readings[0].Value)
	got = reads(c, "b")
	p.hears("B?")
	p.say("4\n")
	require.Equal(t, twin.IntValue(4), (<-got).readings[0].Value)
}
