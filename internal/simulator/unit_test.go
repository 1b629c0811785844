package simulator

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/twin"
)

func word(v twin.Value) ([]uint16, error) {
	n, _ := v.AsInt()
	return []uint16{uint16(n)}, nil
}

func bit(v twin.Value) ([]uint16, error) {
	if b, _ := v.AsBool(); b {
		return []uint16{1}, nil
	}
	return []uint16{0}, nil
}

func hold(v twin.Value) wave { return wave{Wave: Wave{Wave: "hold"}, fixed: v} }

// testUnit has holding registers 10, 11 and 13, coils 0 to 9 and input 0.
func testUnit(script DeviceScript) *Unit {
	u := newUnit(twin.DeviceID{Namespace: "default", Name: "pump"}, script, time.Now())
	for a, v := range map[uint16]int64{10: 0x1234, 11: 2, 13: 4} {
		u.add(cell{space: holdings, address: a, count: 1, mask: 0xFFFF, wave: hold(twin.IntValue(v)), encode: word})
	}
	for a := range uint16(10) {
		u.add(cell{space: coils, address: a, count: 1, mask: 0xFFFF, wave: hold(twin.BoolValue(a%3 == 0)), encode: bit})
	}
	u.add(cell{space: inputs, address: 0, count: 1, mask: 0xFFFF, wave: hold(twin.IntValue(7)), encode: word})
	return u
}

func TestAnswers(t *testing.T) {
	tests := []struct{ name, request, reply string }{
		{"read holding", "03 000A 0002", "03 04 1234 0002"},
		{"read over a gap", "03 000A 0004", "03 08 1234 0002 0000 0004"},
		{"read below", "03 0009 0001", "83 02"},
		{"read beyond", "03 000A 0005", "83 02"},
		{"read none", "03 000A 0000", "83 03"},
		{"read 126", "03 000A 007E", "83 03"},
		{"read input", "04 0000 0001", "04 02 0007"},
		{"read coils", "01 0000 000A", "01 02 4902"},
		{"read discrete", "02 0000 0001", "82 02"},
		{"write coil", "05 0001 FF00", "05 0001 FF00"},
		{"write coil nonsense", "05 0001 1234", "85 03"},
		{"write register", "06 000B 0009", "06 000B 0009"},
		{"write undeclared", "06 000C 0009", "86 02"},
		{"write coils", "0F 0000 000A 02 FF03", "0F 0000 000A"},
		{"write registers", "10 000A 0002 04 00010002", "10 000A 0002"},
		{"write registers short", "10 000A 0002 04 0001", "90 03"},
		{"mask write", "16 000A 00F2 0025", "16 000A 00F2 0025"},
		{"read and write", "17 000A 0001 000B 0001 02 0099", "17 02 1234"},
		{"diagnostics", "08 0000 A537", "08 0000 A537"},
		{"unknown function", "2B 0E01", "AB 01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := testUnit(DeviceScript{})
			reply, _, _ := u.answer(unhex(t, tt.request))
			require.Equal(t, unhex(t, tt.reply), reply)
		})
	}
}

func TestAStrictUnitRefusesHoles(t *testing.T) {
	u := testUnit(DeviceScript{Strict: true})
	reply, _, _ := u.answer(unhex(t, "03 000A 0004"))
	require.Equal(t, unhex(t, "83 02"), reply)
}

func TestAWriteIsReadBack(t *testing.T) {
	u := testUnit(DeviceScript{})
	u.answer(unhex(t, "06 000B 0309"))
	u.answer(unhex(t, "16 000A 00F2 0025"))
	reply, _, _ := u.answer(unhex(t, "03 000A 0002"))
	require.Equal(t, unhex(t, "03 04 0035 0309"), reply, "mask: (0x1234 & 0x00F2) | (0x0025 &^ 0x00F2)")
}

func TestBooleansShareARegister(t *testing.T) {
	u := newUnit(twin.DeviceID{Namespace: "d", Name: "n"}, DeviceScript{}, time.Now())
	for b, on := range map[int]bool{0: true, 3: false, 15: true} {
		u.add(cell{property: string(rune('a' + b)), space: holdings, address: 1, count: 1, mask: 1 << b, wave: hold(twin.BoolValue(on)), encode: func(v twin.Value) ([]uint16, error) {
			words, err := bit(v)
			words[0] <<= b
			return words, err
		}})
	}
	reply, _, _ := u.answer(unhex(t, "03 0001 0001"))
	require.Equal(t, unhex(t, "03 02 8001"), reply)
	require.True(t, u.Set("d", twin.BoolValue(true)))
	require.False(t, u.Set("x", twin.BoolValue(true)))
	reply, _, _ = u.answer(unhex(t, "03 0001 0001"))
	require.Equal(t, unhex(t, "03 02 8009"), reply)
}

func TestTheFaultScriptIsPlayedInOrder(t *testing.T) {
	f := newFaults([]Fault{{Do: Drop, After: 2, Times: 2}, {Do: Late, After: 1, Every: 3}})
	var played []string
	for range 8 {
		fault, _ := f.next()
		played = append(played, fault.Do)
	}
	require.Equal(t, []string{"", Late, Drop, Drop, Late, "", "", Late}, played)
}

func TestAnExceptionCanBeScripted(t *testing.T) {
	u := testUnit(DeviceScript{Faults: []Fault{{Do: Exception, Code: 6, Times: 1}}})
	reply, _, _ := u.answer(unhex(t, "03 000A 0001"))
	require.Equal(t, unhex(t, "83 06"), reply)
	reply, _, _ = u.answer(unhex(t, "03 000A 0001"))
	require.Equal(t, unhex(t, "03 02 1234"), reply)
}

func TestWavesStayInTheirBounds(t *testing.T) {
	p := &twin.Property{Name: "x", Type: twin.TypeDouble, Minimum: twin.FloatValue(-5), Maximum: twin.FloatValue(5)}
	for _, name := range []string{"sine", "square", "triangle", "ramp", "random"} {
		w, err := waveOf(Wave{Wave: name, Period: Duration(time.Second)}, p)
		require.NoError(t, err)
		lowest, highest := 9.9, -9.9
		for ms := range 2000 {
			f, ok := w.at(time.Duration(ms) * time.Millisecond).AsFloat()
			require.True(t, ok)
			lowest, highest = min(lowest, f), max(highest, f)
		}
		require.GreaterOrEqual(t, lowest, -5.0, name)
		require.LessOrEqual(t, highest, 5.0, name)
		if name != "random" {
			require.InDelta(t, -5, lowest, 0.1, name)
			require.InDelta(t, 5, highest, 0.1, name)
		}
	}
	counter, err := waveOf(Wave{Wave: "counter", Rate: 2}, &twin.Property{Type: twin.TypeInt})
	require.NoError(t, err)
	require.Equal(t, twin.IntValue(20), counter.at(10*time.Second))
}

func TestMistakesInAScriptAreNamed(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"unknown wave", "default/a: {properties: {t: {wave: sinus}}}", `unknown wave "sinus"; known are constant`},
		{"unknown fault", "default/a: {faults: [{do: explode}]}", `faults[0]: unknown fault "explode"`},
		{"unknown field", "default/a: {fautls: []}", "fautls"},
		{"no device id", "a: {}", "write namespace/name"},
		{"bad delay", "default/a: {faults: [{do: late, delay: soon}]}", "not a duration"},
		{"min above max", "default/a: {properties: {t: {wave: sine, min: 2, max: 1}}}", "above max"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var script Script
			doc := "apiVersion: twinline.io/v1alpha1\nkind: Simulation\nmetadata: {name: x}\nspec:\n  devices:\n    " + tt.yaml + "\n"
			problems := DecodeScript("file.yaml", []byte("kind: Device\n---\n"+doc), &script)
			require.Len(t, problems, 1)
			require.Contains(t, problems[0].Error(), tt.want)
		})
	}
}

func FuzzUnit(f *testing.F) {
	for _, s := range []string{"03000A0002", "0F0000000A02FF03", "10000A00020400010002", "17000A0001000B0001020099", "16000A00F20025", "01FFFF0001"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, req []byte) {
		if len(req) == 0 || len(req) > maxPDU {
			return
		}
		reply, _, _ := testUnit(DeviceScript{}).answer(req)
		require.NotEmpty(t, reply)
		require.LessOrEqual(t, len(reply), maxPDU)
		require.Equal(t, req[0]&^exceptionFlag, reply[0]&^exceptionFlag)
	})
}

func FuzzScript(f *testing.F) {
	f.Add([]byte("kind: Simulation\napiVersion: twinline.io/v1alpha1\nspec: {devices: {default/a: {faults: [{do: late}]}}}"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var script Script
		DecodeScript("fuzz", data, &script)
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestAValueIsReadAsItIsWritten(t *testing.T) {
	for _, c := range []struct {
		yaml string
		kind twin.Type
		want twin.Value
	}{
		{"305419896", twin.TypeInt, twin.IntValue(305419896)},
		{`"9007199254740993"`, twin.TypeInt, twin.IntValue(9007199254740993)}, // beyond float64, so in quotes
		{"1e-9", twin.TypeDouble, twin.FloatValue(1e-9)},
		{"true", twin.TypeBoolean, twin.BoolValue(true)},
	} {
		var script Script
		problems := DecodeScript("test", []byte("apiVersion: twinline.io/v1alpha1\nkind: Simulation\nspec:\n  devices:\n    a/b:\n      properties:\n        p: {wave: constant, value: "+c.yaml+"}\n"), &script)
		require.Empty(t, problems)
		w, err := waveOf(script.Devices["a/b"].Properties["p"], &twin.Property{Name: "p", Type: c.kind})
		require.NoError(t, err)
		require.Equal(t, c.want, w.fixed)
	}
}
