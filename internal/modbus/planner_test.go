package modbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goburrow/modbus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// device answers a planner's reads: each register holds its own address.
type device struct {
	illegal func(table Table, address, count int) bool
	fail    func(b *Block) error
	took    time.Duration
	asked   []string
}

func (d *device) ask(_ context.Context, b *Block) ([]byte, time.Duration, error) {
	d.asked = append(d.asked, fmt.Sprintf("%s %d+%d", b.Table, b.Start, b.Count))
	if d.fail != nil {
		if err := d.fail(b); err != nil {
			return nil, 0, err
		}
	}
	if d.illegal != nil && d.illegal(b.Table, int(b.Start), int(b.Count)) {
		return nil, 0, faultOf(&modbus.ModbusError{FunctionCode: 0x83, ExceptionCode: 2}, b.Table, b.Start, b.Count)
	}
	if b.Table.Bits() {
		return make([]byte, (b.Count+7)/8), d.took, nil
	}
	data := make([]byte, 0, 250)
	for i := range b.Count {
		data = binary.BigEndian.AppendUint16(data, b.Start+i)
	}
	return data, d.took, nil
}

// planner returns a planner of uint16s (or, by a suffix, others) at addresses: "h10", "i20.2" of two registers, "c3".
func planner(t require.TestingT, config map[string]any, at ...string) (*Planner, []string) {
	if config["url"] == nil {
		config["url"] = "tcp://x"
	}
	d := twin.Device{Config: config}
	for _, name := range at {
		var address, size int
		if n, _ := fmt.Sscanf(name[1:], "%d.%d", &address, &size); n == 1 {
			size = 1
		}
		v := map[string]any{"address": address, "register": map[byte]string{'h': "holding", 'i': "input", 'c': "coil"}[name[0]]}
		p := twin.Property{Name: name, Type: twin.TypeInt, Visitor: v}
		switch {
		case name[0] == 'c':
			p.Type = twin.TypeBoolean
		case size == 2:
			v["type"] = "uint32"
		case size == 4:
			v["type"] = "uint64"
		case size > 1:
			v["type"], v["length"], p.Type = "string", size, twin.TypeString
		}
		d.Properties = append(d.Properties, p)
	}
	decl, problems := Parse(&d)
	require.Empty(t, problems)
	return NewPlanner(decl), at
}

func TestPlans(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]any
		at     string
		want   string
	}{
		"adjacent":           {map[string]any{"gap": 0}, "h10 h11 h12.2 h14", "holding 10+5"},
		"no gap":             {map[string]any{"gap": 0}, "h10 h12", "holding 10+1, holding 12+1"},
		"a gap":              {map[string]any{"gap": 3}, "h10 h14 h19", "holding 10+5, holding 19+1"},
		"tables apart":       {map[string]any{}, "h10 i11 c12 h11", "coil 12+1, holding 10+2, input 11+1"},
		"overlap":            {map[string]any{"gap": 0}, "h10.4 h11 h13.2", "holding 10+5"},
		"the same twice":     {map[string]any{"gap": 0}, "h10 h10.2", "holding 10+2"},
		"at most":            {map[string]any{"maxRegisters": 4, "gap": 8}, "h0 h1 h2 h3 h4 h5", "holding 0+4, holding 4+2"},
		"a field stays":      {map[string]any{"maxRegisters": 5, "gap": 8}, "h0.4 h4.2 h6.2 h8.2", "holding 0+4, holding 4+4, holding 8+2"},
		"125":                {map[string]any{}, "h0 h124 h125", "holding 0+1, holding 124+2"},
		"coils":              {map[string]any{}, "c0 c1900 c2500", "coil 0+1, coil 1900+601"},
		"last":               {map[string]any{}, "h65535 h65534", "holding 65534+2"},
		"9600 baud, near":    {map[string]any{"url": "rtu:///dev/x?baud=9600"}, "h0 h11", "holding 0+12"},
		"9600 baud, far":     {map[string]any{"url": "rtu:///dev/x?baud=9600"}, "h0 h15", "holding 0+1, holding 15+1"},
		"115200 baud, far":   {map[string]any{"url": "rtu:///dev/x?baud=115200"}, "h0 h50", "holding 0+51"},
		"115200 baud, too":   {map[string]any{"url": "rtu:///dev/x?baud=115200"}, "h0 h55", "holding 0+1, holding 55+1"},
		"best, not greedy":   {map[string]any{"maxRegisters": 10, "gap": 9}, "h0 h9 h10 h11 h12 h13 h14 h15 h16 h17 h18", "holding 0+1, holding 9+10"},
		"unknown properties": {map[string]any{}, "h10", "holding 10+1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, names := planner(t, test.config, strings.Fields(test.at)...)
			d := &device{took: time.Millisecond}
			_, err := p.Read(t.Context(), append(names, "unknown"), d.ask)
			require.NoError(t, err)
			require.Equal(t, test.want, strings.Join(d.asked, ", "))
		})
	}
}

func TestValuesLandWhereTheyBelong(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) string {
			return fmt.Sprintf("%s%d.%d", rapid.SampledFrom([]string{"h", "i"}).Draw(rt, "table"), rapid.IntRange(0, 400).Draw(rt, "address"), rapid.SampledFrom([]int{1, 2}).Draw(rt, "size"))
		}), 1, 40, rapid.ID[string]).Draw(rt, "at")
		holes := rapid.SliceOfN(rapid.IntRange(0, 401), 0, 4).Draw(rt, "holes")
		most := rapid.SampledFrom([]int{4, 30, 125}).Draw(rt, "most the device gives")
		p, names := planner(rt, map[string]any{"maxRegisters": rapid.SampledFrom([]int{4, 20, 125}).Draw(rt, "max"), "url": rapid.SampledFrom([]string{"tcp://x", "rtu:///dev/x"}).Draw(rt, "url")}, at...)
		d := &device{took: time.Millisecond, illegal: func(_ Table, address, count int) bool {
			return count > most || slices.ContainsFunc(holes, func(h int) bool { return h >= address && h < address+count })
		}}
		for range len(names) + 1 {
			readings, err := p.Read(rt.Context(), names, d.ask)
			require.NoError(rt, err)
			for i, r := range readings {
				var address, size int
				_, _ = fmt.Sscanf(names[i][1:], "%d.%d", &address, &size)
				require.Equal(rt, names[i], r.Property)
				if d.illegal(Holdings, address, size) {
					require.Equal(rt, twin.Quality("bad:exception-2"), r.Quality, "%s", names[i])
					continue
				}
				require.True(rt, r.Quality.IsGood(), "%s is %s", names[i], r.Quality)
				want := int64(address)
				if size == 2 {
					want = int64(address)<<16 | int64(address+1)
				}
				require.Equal(rt, twin.IntValue(want), r.Value, names[i])
			}
		}
		before := len(d.asked)
		_, err := p.Read(rt.Context(), names, d.ask)
		require.NoError(rt, err)
		for _, asked := range d.asked[before:] { // what was learned holds: nothing illegal is asked for again
			var table string
			var start, count int
			_, _ = fmt.Sscanf(asked, "%s %d+%d", &table, &start, &count)
			if len(d.asked)-before > 1 {
				require.False(rt, d.illegal(Holdings, start, count), asked)
			}
		}
	})
}

func TestARefusedRegisterHidesNoNeighbourAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, names := planner(t, map[string]any{}, "h0", "h1", "h2", "h3")
		sick := true
		d := &device{took: time.Millisecond, illegal: func(_ Table, address, count int) bool { return sick && address <= 2 && 2 < address+count }}
		read := func() string {
			d.asked = nil
			readings, err := p.Read(t.Context(), names, d.ask)
			require.NoError(t, err)
			require.True(t, readings[0].Quality.IsGood() && readings[1].Quality.IsGood() && readings[3].Quality.IsGood())
			return fmt.Sprint(len(d.asked), " ", readings[2].Quality)
		}
		require.Equal(t, "5 bad:exception-2", read())
		require.Equal(t, "2 bad:exception-2", read(), "around it, and not it; the halves that were given are not joined across it")
		time.Sleep(firstRetry)
		require.Equal(t, "3 bad:exception-2", read(), "it is asked again, alone")
		require.Equal(t, "2 bad:exception-2", read())
		sick = false
		time.Sleep(2 * firstRetry)
		require.Equal(t, "3 ", read())
		require.Equal(t, "1 ", read(), "all is one read again")
	})
}

func TestAHoleBetweenFieldsIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, names := planner(t, map[string]any{}, "h0", "h1", "h8", "h9")
		d := &device{took: time.Millisecond, illegal: func(_ Table, address, count int) bool { return address <= 5 && 5 < address+count }}
		read := func() int {
			d.asked = nil
			readings, err := p.Read(t.Context(), names, d.ask)
			require.NoError(t, err)
			for _, r := range readings {
				require.True(t, r.Quality.IsGood())
			}
			return len(d.asked)
		}
		require.Equal(t, []int{3, 2, 2}, []int{read(), read(), read()})
		time.Sleep(cutFor)
		require.Equal(t, []int{3, 2, 2}, []int{read(), read(), read()}, "an hour later it is tried again")
		d.illegal = nil
		time.Sleep(cutFor)
		require.Equal(t, 1, read())
	})
}

func TestADeviceThatRefusesAllIsStillAsked(t *testing.T) {
	p, names := planner(t, map[string]any{}, "h0", "h100")
	d := &device{took: time.Millisecond, illegal: func(Table, int, int) bool { return true }}
	for range 3 {
		d.asked = nil
		readings, err := p.Read(t.Context(), names, d.ask)
		require.NoError(t, err)
		require.NotEmpty(t, d.asked)
		for _, r := range readings {
			require.Equal(t, twin.Quality("bad:exception-2"), r.Quality)
		}
	}
	require.Len(t, d.asked, 1)
}

func TestOneSilentBlockDoesNotHideTheRest(t *testing.T) {
	p, names := planner(t, map[string]any{"gap": 0, "retries": 0}, "h0", "h10", "h20", "h30")
	silent := map[uint16]bool{0: true, 10: true}
	d := &device{took: time.Millisecond, fail: func(b *Block) error {
		if silent[b.Start] {
			return fault(whyTimeout, "%w", link.ErrSilent)
		}
		return nil
	}}
	good := map[string]bool{}
	for range 4 {
		readings, err := p.Read(t.Context(), names, d.ask)
		for _, r := range readings {
			if err == nil && r.Quality.IsGood() {
				good[r.Property] = true
			}
		}
	}
	require.Equal(t, map[string]bool{"h20": true, "h30": true}, good)
	silent = map[uint16]bool{0: true, 10: true, 20: true, 30: true}
	d.asked = nil
	_, err := p.Read(t.Context(), names, d.ask)
	require.ErrorIs(t, err, link.ErrSilent)
	require.Len(t, d.asked, giveUp, "a dead device is not asked for everything")
}

func TestRetries(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"silence":     {fault(whyTimeout, "%w", link.ErrSilent), 3},
		"checksum":    {fault(whyChecksum, "damaged"), 3},
		"down":        {fault(whyConnection, "%w", link.ErrDown), 3},
		"busy":        {faultOf(&modbus.ModbusError{ExceptionCode: 6}, Holdings, 0, 1), 3},
		"gateway":     {faultOf(&modbus.ModbusError{ExceptionCode: 11}, Holdings, 0, 1), 3},
		"failure":     {faultOf(&modbus.ModbusError{ExceptionCode: 4}, Holdings, 0, 1), 1},
		"not illegal": {faultOf(&modbus.ModbusError{ExceptionCode: 1}, Holdings, 0, 1), 1},
		"other":       {context.Canceled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, names := planner(t, map[string]any{"retries": 2}, "h0")
			d := &device{took: time.Millisecond, fail: func(*Block) error { return test.err }}
			_, _ = p.Read(t.Context(), names, d.ask)
			require.Len(t, d.asked, test.want)
		})
	}
}

// What a gateway says of a unit behind it is no answer of that unit.
func TestAGatewaysExceptionIsSilence(t *testing.T) {
	p, names := planner(t, map[string]any{}, "h0")
	d := &device{fail: func(*Block) error { return faultOf(&modbus.ModbusError{ExceptionCode: 11}, Holdings, 0, 1) }}
	_, err := p.Read(t.Context(), names, d.ask)
	require.ErrorIs(t, err, link.ErrSilent)
	require.Equal(t, "exception-11", mapper.Reason(err))
}

func TestTheMeasuredResponseTimeChangesThePlan(t *testing.T) {
	p, names := planner(t, map[string]any{"url": "rtu:///dev/x?baud=9600"}, "h0", "h40")
	d := &device{took: 400 * time.Millisecond} // a slow slave: reading 40 registers costs less than asking again
	_, err := p.Read(t.Context(), names, d.ask)
	require.NoError(t, err)
	require.Len(t, d.asked, 2)
	d.asked = nil
	_, err = p.Read(t.Context(), names, d.ask)
	require.NoError(t, err)
	require.Equal(t, []string{"holding 0+41"}, d.asked)
}

func TestPlansAreBounded(t *testing.T) {
	var at []string
	for i := range maxPlans + 5 {
		at = append(at, fmt.Sprintf("h%d", i))
	}
	p, names := planner(t, map[string]any{}, at...)
	d := &device{took: time.Millisecond}
	for i := range names {
		_, err := p.Read(t.Context(), names[i:], d.ask)
		require.NoError(t, err)
	}
	require.Len(t, p.plans, maxPlans)
}

func BenchmarkPlannerRead50(b *testing.B) {
	var at []string
	for i := range 50 {
		at = append(at, fmt.Sprintf("h%d", i))
	}
	p, names := planner(b, map[string]any{}, at...)
	data := make([]byte, 100)
	ask := func(context.Context, *Block) ([]byte, time.Duration, error) { return data, time.Millisecond, nil }
	b.ReportAllocs()
	for b.Loop() {
		_, _ = p.Read(b.Context(), names, ask)
	}
}
