package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/modbus/modbustest"
	"github.com/twinline/twinline/pkg/mapper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a transport and the scripted devices at its other end.
type rig struct {
	Transport
	server  *modbustest.Server
	scheme  Scheme
	dials   int
	refuse  int // of the first dials
	served  sync.WaitGroup
	clients map[byte]*Client
}

func framingOf(s Scheme) modbustest.Framing {
	switch s {
	case TCP, UDP:
		return modbustest.MBAP
	case ASCII, ASCIIOverTCP:
		return modbustest.ASCII
	}
	return modbustest.RTU
}

func newRig(s Scheme, server *modbustest.Server) *rig {
	r := &rig{server: server, scheme: s, clients: map[byte]*Client{}}
	server.Framing = framingOf(s)
	r.Transport = NewTransport(r.endpoint(), r.dial)
	return r
}

func (r *rig) endpoint() Endpoint {
	return Endpoint{Scheme: r.scheme, Address: "test:502", Baud: 9600, Parity: "even", StopBits: 1, DataBits: 8}
}

func (r *rig) dial(context.Context) (Stream, error) {
	r.dials++
	if r.dials <= r.refuse {
		return nil, errors.New("refused")
	}
	near, far := modbustest.Pipe()
	r.served.Go(func() { _ = r.server.Serve(far) })
	return near, nil
}

func (r *rig) stop() {
	_ = r.Close()
	r.served.Wait()
}

const testTimeout = 100 * time.Millisecond

func (r *rig) read(ctx context.Context, unit byte, address, count uint16) ([]byte, error) {
	c := r.clients[unit]
	if c == nil {
		c = NewClient(&Config{Endpoint: r.endpoint(), Unit: unit, Timeout: testTimeout}, r.Transport)
		r.clients[unit] = c
	}
	return c.Read(ctx, Holdings, address, count)
}

// at checks that data is what stands at address.
func at(t require.TestingT, data []byte, address uint16) {
	for i := 0; i < len(data)-1; i += 2 {
		require.Equal(t, address+uint16(i/2), binary.BigEndian.Uint16(data[i:]), "register %d of the block at %d", i/2, address)
	}
}

func streams() []Scheme { return []Scheme{TCP, RTU, RTUOverTCP, ASCII, ASCIIOverTCP} }

func each(t *testing.T, schemes []Scheme, test func(t *testing.T, s Scheme)) {
	for _, s := range schemes {
		t.Run(string(s), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, s) }) })
	}
}

// faultOnce makes request n of a script go wrong.
func faultOnce(n int, f modbustest.Fault) func(modbustest.Request) modbustest.Fault {
	return func(r modbustest.Request) modbustest.Fault {
		if r.N == n {
			return f
		}
		return modbustest.Fault{}
	}
}

func TestALateAnswerIsNeverTakenForTheNext(t *testing.T) {
	each(t, streams(), func(t *testing.T, s Scheme) {
		server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}}
		server.Script = faultOnce(0, modbustest.Fault{Delay: 160 * time.Millisecond})
		r := newRig(s, server)
		defer r.stop()
		_, err := r.read(t.Context(), 1, 100, 1)
		require.ErrorIs(t, err, link.ErrSilent)
		require.Equal(t, "timeout", mapper.Reason(err))
		for _, address := range []uint16{200, 300, 400} {
			data, err := r.read(t.Context(), 1, address, 1)
			require.NoError(t, err)
			at(t, data, address)
		}
		require.EqualValues(t, 1, r.Counters().Late.Load())
	})
}

func TestEachFaultIsAnErrorAndTheLineRecovers(t *testing.T) {
	for name, test := range map[string]struct {
		fault modbustest.Fault
		why   map[bool]string // by whether the scheme has transaction numbers
	}{
		"none":            {modbustest.Fault{}, map[bool]string{}},
		"split":           {modbustest.Fault{Split: 2, Gap: 30 * time.Millisecond}, map[bool]string{}},
		"split late":      {modbustest.Fault{Split: 5, Gap: 120 * time.Millisecond}, map[bool]string{true: "timeout", false: "timeout"}},
		"late":            {modbustest.Fault{Delay: 150 * time.Millisecond}, map[bool]string{true: "timeout", false: "timeout"}},
		"very late":       {modbustest.Fault{Delay: 390 * time.Millisecond}, map[bool]string{true: "timeout", false: "timeout"}},
		"dropped":         {modbustest.Fault{Drop: true}, map[bool]string{true: "timeout", false: "timeout"}},
		"corrupt":         {modbustest.Fault{Corrupt: true}, map[bool]string{true: "mismatch", false: "crc"}},
		"cut short":       {modbustest.Fault{Cut: 1}, map[bool]string{true: "timeout", false: "timeout"}},
		"wrong unit":      {modbustest.Fault{Unit: 9}, map[bool]string{true: "mismatch", false: "timeout"}},
		"wrong number":    {modbustest.Fault{Number: true}, map[bool]string{true: "timeout"}},
		"wrong length":    {modbustest.Fault{Length: true}, map[bool]string{true: "mismatch", false: "timeout"}},
		"exception":       {modbustest.Fault{Exception: 4}, map[bool]string{true: "exception-4", false: "exception-4"}},
		"late exception":  {modbustest.Fault{Exception: 2, Delay: 150 * time.Millisecond}, map[bool]string{true: "timeout", false: "timeout"}},
		"closed":          {modbustest.Fault{Close: true}, map[bool]string{true: "connection", false: "connection"}},
		"hung":            {modbustest.Fault{Hang: true}, map[bool]string{true: "timeout", false: "timeout"}},
		"noise before it": {modbustest.Fault{Noise: []byte{0xFF, 0x13, 0x55, 0, 1, 2, 3}}, map[bool]string{true: "mismatch", false: "crc"}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, streams(), func(t *testing.T, s Scheme) {
				if ascii := s == ASCII || s == ASCIIOverTCP; ascii && name == "noise before it" {
					return // ASCII frames show where they start
				}
				if s.Serial() && name == "hung" {
					return // nothing that a master does would help
				}
				server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}, 2: {}}}
				server.Script = faultOnce(1, test.fault)
				r := newRig(s, server)
				defer r.stop()
				data, err := r.read(t.Context(), 1, 10, 4)
				require.NoError(t, err)
				at(t, data, 10)
				data, err = r.read(t.Context(), 1, 100, 4)
				if want := test.why[s == TCP]; want == "" {
					require.NoError(t, err)
					at(t, data, 100)
				} else {
					require.Equal(t, want, mapper.Reason(err), "%v", err)
				}
				r.mustRecover(t)
			})
		})
	}
}

// mustRecover reads other addresses with the same shape until one is answered.
func (r *rig) mustRecover(t require.TestingT) {
	for i := range 12 {
		address := uint16(1000 + 10*i)
		data, err := r.read(context.Background(), 1, address, 4)
		if err != nil {
			time.Sleep(testTimeout)
			continue
		}
		at(t, data, address)
		if i < 11 && data != nil {
			return
		}
	}
	require.Fail(t, "the line did not recover")
}

func TestADuplicateAnswerIsDiscarded(t *testing.T) {
	each(t, streams(), func(t *testing.T, s Scheme) {
		server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}}
		server.Script = faultOnce(0, modbustest.Fault{Twice: true})
		r := newRig(s, server)
		defer r.stop()
		for _, address := range []uint16{100, 200, 300} {
			data, err := r.read(t.Context(), 1, address, 2)
			require.NoError(t, err)
			at(t, data, address)
			time.Sleep(time.Millisecond)
		}
	})
}

// The fence's three ways: an echo, the exception of a unit that does not know
// echoes, and a read of another size for one that ignores them.
func TestFence(t *testing.T) {
	for name, unit := range map[string]func() *modbustest.Bank{
		"echo":      func() *modbustest.Bank { return &modbustest.Bank{} },
		"exception": func() *modbustest.Bank { return &modbustest.Bank{Unknown: []byte{8}} },
		"silence":   func() *modbustest.Bank { return &modbustest.Bank{Ignored: []byte{8}} },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, []Scheme{RTU, RTUOverTCP, ASCII}, func(t *testing.T, s Scheme) {
				server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: unit()}}
				server.Script = faultOnce(0, modbustest.Fault{Drop: true})
				r := newRig(s, server)
				defer r.stop()
				_, err := r.read(t.Context(), 1, 100, 3)
				require.ErrorIs(t, err, link.ErrSilent)
				tries := 0
				for ; tries < 3; tries++ {
					var data []byte
					if data, err = r.read(t.Context(), 1, 200, 3); err == nil {
						at(t, data, 200)
						break
					}
					require.ErrorIs(t, err, link.ErrSilent)
				}
				require.NoError(t, err)
				require.Equal(t, map[string]int{"echo": 0, "exception": 0, "silence": 1}[name], tries)
			})
		})
	}
}

// TestNoFaultsEverMakeAWrongValue throws random scripts at a line with two
// units. Every answer must be of the address asked for, of the unit asked, and no older than the request.
func TestNoFaultsEverMakeAWrongValue(t *testing.T) {
	for _, s := range streams() {
		t.Run(string(s), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { bubble(t, rt, s) })
		})
	}
}

func bubble(t *testing.T, rt *rapid.T, s Scheme) {
	faults := rapid.SliceOfN(rapid.Custom(drawFault), 1, 12).Draw(rt, "faults")
	asked := rapid.SliceOfN(rapid.Custom(drawAsk), 4, 24).Draw(rt, "asked")
	ignores := rapid.SampledFrom([][]byte{nil, {8}}).Draw(rt, "ignored")
	wrong := "" // said outside: rapid must not unwind the bubble
	synctest.Test(t, func(*testing.T) {
		banks := map[byte]*modbustest.Bank{}
		for unit := range byte(3) {
			banks[unit+1] = &modbustest.Bank{Stamp: true, Ignored: ignores, Illegal: func(_ byte, a, n int) bool { return a+n > 5000 }}
		}
		server := &modbustest.Server{Units: banks}
		server.Script = func(q modbustest.Request) modbustest.Fault { return faults[q.N%len(faults)] }
		r := newRig(s, server)
		defer r.stop()
		for i, a := range asked {
			time.Sleep(a.pause)
			before := banks[a.unit].Reads()
			data, err := r.read(context.Background(), a.unit, a.address, a.count)
			if err != nil {
				continue
			}
			if wrong = wrongness(data, a, before); wrong != "" {
				wrong = fmt.Sprintf("request %d: %s", i, wrong)
				return
			}
		}
	})
	if wrong != "" {
		rt.Fatal(wrong)
	}
}

// wrongness says what is wrong with an answer; before is how many the unit had given when it was asked.
func wrongness(data []byte, a ask, before uint16) string {
	if len(data) != 2*int(a.count) {
		return fmt.Sprintf("%d bytes, want %d", len(data), 2*a.count)
	}
	last := 2 * int(a.count-1)
	for i := 0; i < last; i += 2 {
		if got, want := binary.BigEndian.Uint16(data[i:]), a.address+uint16(i/2); got != want {
			return fmt.Sprintf("register %d is %d, want %d", i/2, got, want)
		}
	}
	if stamp := binary.BigEndian.Uint16(data[last:]); stamp <= before {
		return fmt.Sprintf("the answer is number %d of the unit, but %d had been given before it was asked", stamp, before)
	}
	return ""
}

type ask struct {
	unit           byte
	address, count uint16
	pause          time.Duration
}

func drawAsk(rt *rapid.T) ask {
	return ask{
		unit:    rapid.SampledFrom([]byte{1, 1, 2}).Draw(rt, "unit"),
		address: rapid.SampledFrom([]uint16{100, 200, 300, 4999}).Draw(rt, "address"),
		count:   rapid.SampledFrom([]uint16{2, 2, 3}).Draw(rt, "count"),
		pause:   time.Duration(rapid.SampledFrom([]int{0, 0, 5, 60, 250}).Draw(rt, "pause")) * time.Millisecond,
	}
}

func drawFault(rt *rapid.T) modbustest.Fault {
	ms := func(name string, choices ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(choices).Draw(rt, name)) * time.Millisecond
	}
	switch rapid.SampledFrom([]string{"", "", "late", "split", "drop", "corrupt", "cut", "unit", "number", "length", "exception", "close", "twice", "noise"}).Draw(rt, "fault") {
	case "late":
		return modbustest.Fault{Delay: ms("delay", 20, 99, 101, 130, 250, 700)}
	case "split":
		return modbustest.Fault{Split: rapid.IntRange(1, 8).Draw(rt, "at"), Gap: ms("gap", 1, 30, 110, 300)}
	case "drop":
		return modbustest.Fault{Drop: true}
	case "corrupt":
		return modbustest.Fault{Corrupt: true, Delay: ms("delay", 0, 130)}
	case "cut":
		return modbustest.Fault{Cut: rapid.IntRange(1, 4).Draw(rt, "cut")}
	case "unit":
		return modbustest.Fault{Unit: rapid.SampledFrom([]byte{1, 2, 9}).Draw(rt, "other")}
	case "number":
		return modbustest.Fault{Number: true}
	case "length":
		return modbustest.Fault{Length: true}
	case "exception":
		return modbustest.Fault{Exception: 2, Delay: ms("delay", 0, 130)}
	case "close":
		return modbustest.Fault{Close: true}
	case "noise":
		return modbustest.Fault{Noise: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(rt, "noise")}
	}
	return modbustest.Fault{}
}

func TestADeadConnectionIsDialedAnewWithBackoff(t *testing.T) {
	each(t, []Scheme{TCP, RTUOverTCP}, func(t *testing.T, s Scheme) {
		r := newRig(s, &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}})
		defer r.stop()
		r.refuse = 6
		start := time.Now()
		for {
			_, err := r.read(t.Context(), 1, 1, 1)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, link.ErrDown)
			require.Equal(t, "connection", mapper.Reason(err))
			time.Sleep(10 * time.Millisecond)
		}
		require.Equal(t, 7, r.dials)
		require.Greater(t, time.Since(start), 6*time.Second, "250 ms doubled five times, to 8 s, less the jitter")
		require.Less(t, time.Since(start), 25*time.Second)
	})
}

func TestAPeerThatSaysNothingIsDialedAnew(t *testing.T) {
	each(t, []Scheme{TCP, RTUOverTCP}, func(t *testing.T, s Scheme) {
		server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}}
		server.Script = func(q modbustest.Request) modbustest.Fault { return modbustest.Fault{Hang: q.N == 1} }
		r := newRig(s, server)
		defer r.stop()
		_, err := r.read(t.Context(), 1, 1, 1)
		require.NoError(t, err)
		for range maxSilent {
			_, err := r.read(t.Context(), 1, 1, 1)
			require.ErrorIs(t, err, link.ErrSilent)
		}
		_, err = r.read(t.Context(), 1, 1, 1)
		require.NoError(t, err)
		require.Equal(t, 2, r.dials)
	})
}

func TestExchangeEndsWithItsContext(t *testing.T) {
	each(t, streams(), func(t *testing.T, s Scheme) {
		server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}}
		server.Script = func(q modbustest.Request) modbustest.Fault { return modbustest.Fault{Drop: q.N == 1} }
		r := newRig(s, server)
		defer r.stop()
		_, err := r.read(t.Context(), 1, 1, 1)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		start := time.Now()
		_, err = r.read(ctx, 1, 1, 1)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, link.ErrSilent)
		require.Less(t, time.Since(start), 60*time.Millisecond)
		data, err := r.read(t.Context(), 1, 7, 1)
		require.NoError(t, err)
		at(t, data, 7)
	})
}

// A unit that answers nothing, not even fences, is left alone when it owes too much,
// and is served again afterwards.
func TestDebtsAreBounded(t *testing.T) {
	each(t, []Scheme{RTU}, func(t *testing.T, s Scheme) {
		dead := true
		server := &modbustest.Server{Units: map[byte]*modbustest.Bank{1: {}}}
		server.Script = func(modbustest.Request) modbustest.Fault { return modbustest.Fault{Drop: dead} }
		r := newRig(s, server)
		defer r.stop()
		for range 3 * maxOwed {
			_, err := r.read(t.Context(), 1, 1, 1)
			require.ErrorIs(t, err, link.ErrSilent)
		}
		line := r.Transport.(*serialLine)
		require.Len(t, line.units[1].owed, maxOwed)
		sent := r.Counters().Requests.Load()
		require.EqualValues(t, maxOwed, sent)
		dead = false
		time.Sleep(forgetAfter)
		_, err := r.read(t.Context(), 1, 1, 1)
		require.NoError(t, err)
	})
}

func TestWritesAreEchoedOrErrors(t *testing.T) {
	each(t, streams(), func(t *testing.T, s Scheme) {
		bank := &modbustest.Bank{Illegal: func(_ byte, a, _ int) bool { return a >= 500 }}
		r := newRig(s, &modbustest.Server{Units: map[byte]*modbustest.Bank{1: bank}})
		defer r.stop()
		c := NewClient(&Config{Endpoint: r.endpoint(), Unit: 1, Timeout: testTimeout}, r.Transport)
		require.NoError(t, c.Write(t.Context(), Coils, 3, []uint16{1}))
		require.True(t, bank.Coil(3))
		require.NoError(t, c.Write(t.Context(), Coils, 3, []uint16{0}))
		require.False(t, bank.Coil(3))
		require.NoError(t, c.Write(t.Context(), Holdings, 10, []uint16{0xABCD}))
		require.NoError(t, c.Write(t.Context(), Holdings, 20, []uint16{1, 2, 3}))
		require.NoError(t, c.WriteBits(t.Context(), 10, 0x00F0, 0x0050))
		require.EqualValues(t, 0xAB5D, bank.Register(10))
		require.EqualValues(t, 3, bank.Register(22))
		err := c.Write(t.Context(), Holdings, 500, []uint16{1})
		require.True(t, mapper.Rejected(err))
		require.Equal(t, "exception-2", mapper.Reason(err))
		bank.Unknown = []byte{22}
		require.NoError(t, c.WriteBits(t.Context(), 10, 0x000F, 0x0001))
		require.EqualValues(t, 0xAB51, bank.Register(10))
	})
}

func ExampleEndpoint_String() {
	e, _ := parseURL("rtu:///dev/ttyUSB0?baud=9600")
	fmt.Println(e)
	// Output: rtu:///dev/ttyUSB0?baud=9600&parity=even&stop=1&bits=8
}
