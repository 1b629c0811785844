package iec62056

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/telegram"
)

// The read-outs below were written after published ones, with numbers of our
// own; none is recorded. zmd is like those of Landis+Gyr E650 (ZMD310), with previous values
// without a unit, second values, and addresses that come again; mt174 like that of the Iskraemeco MT174 in the
// volkszaehler wiki; q3d like the D0 specification of the EasyMeter Q3D manual; t550 like
// those of the heat meters Landis+Gyr T550 and UH50, with several data sets on a line.
const (
	zmd = "1-1:F.F(00000000)\r\n" +
		"1-1:0.0.0(50871031)\r\n" +
		"1-1:0.9.1(155420)\r\n" +
		"1-1:0.9.2(170214)\r\n" +
		"1-1:0.1.2*18(1702010000)\r\n" +
		"1-1:0.1.2*00(0000000000)\r\n" +
		"1-1:0.1.2*00(0000000000)\r\n" +
		"1-1:1.6.1(27.19*kW)(1702090945)\r\n" +
		"1-1:1.6.1*18(28.74)(1701121445)\r\n" +
		"1-1:1.8.0(00051206*kWh)\r\n" +
		"1-1:1.8.0*18(00049555)\r\n" +
		"1-1:16.7.0(-007.66*kW)\r\n" +
		"!\r\n"
	mt174 = "1-0:0.9.1*255(080000)\r\n" +
		"1-0:1.8.0*255(0000123.456*kWh)\r\n" +
		"1-0:1.8.1*255(0000100.006*kWh)\r\n" +
		"1-0:0.2.0*255(V01.69#EEA3546C)\r\n" +
		"C.5.0(L1-L2-L3)\r\n" +
		"C.2.1()\r\n" +
		"!\r\n"
	q3d = "/ESY5Q3DA1004 V3.04\r\n" +
		"\r\n" +
		"1-0:0.0.0*255(1336000001)\r\n" +
		"1-0:1.8.0*255(00032549.5061662*kWh)\r\n" +
		"1-0:1.7.0*255(001688.21*W)\r\n" +
		"1-0:96.5.5*255(80)\r\n" +
		"!\r\n"
	t550 = "6.8(0255.987*MWh)6.26(02458.16*m3)9.21(66153690)\r\n" +
		"6.26*01(02196.39*m3)6.8*01(0233.424*MWh)\r\n" +
		"9.4(088.1*C&082.1*C)9.36(2026-01-01&10:20:30)\r\n" +
		"!\r\n"
)

// fields are the fields as "name=text unit".
func fields(t telegram.Telegram) []string {
	var s []string
	for _, f := range t.Fields {
		s = append(s, strings.TrimSpace(f.Name+"="+f.Text+" "+f.Unit))
	}
	return s
}

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct {
		block string
		want  []string
	}{
		"empty":          {"", nil},
		"only the end":   {"!\r\n", nil},
		"Landis+Gyr ZMD": {zmd, []string{"1-1:F.F=00000000", "1-1:0.0.0=50871031", "1-1:0.9.1=155420", "1-1:0.9.2=170214", "1-1:0.1.2*18=1702010000", "1-1:0.1.2*00=0000000000", "1-1:0.1.2*00#2=0000000000", "1-1:1.6.1=27.19 kW", "1-1:1.6.1#2=1702090945", "1-1:1.6.1*18=28.74", "1-1:1.6.1*18#2=1701121445", "1-1:1.8.0=00051206 kWh", "1-1:1.8.0*18=00049555", "1-1:16.7.0=-007.66 kW"}},
		"Iskra MT174":    {mt174, []string{"1-0:0.9.1*255=080000", "1-0:1.8.0*255=0000123.456 kWh", "1-0:1.8.1*255=0000100.006 kWh", "1-0:0.2.0*255=V01.69#EEA3546C", "C.5.0=L1-L2-L3", "C.2.1="}},
		"heat meter":     {t550, []string{"6.8=0255.987 MWh", "6.26=02458.16 m3", "9.21=66153690", "6.26*01=02196.39 m3", "6.8*01=0233.424 MWh", "9.4=088.1*C&082.1*C", "9.36=2026-01-01&10:20:30"}},
		"second value":   {"1.6.0(00.12*kW)(2026-01-01 00:00)", []string{"1.6.0=00.12 kW", "1.6.0#2=2026-01-01 00:00"}},
		"next line":      {"P.01(2601010000)(1.5)\r\n(0.25*kW)\r\n", []string{"P.01=2601010000", "P.01#2=1.5", "P.01#3=0.25 kW"}},
		"no address":     {"(00001234)(5*V)\r\n1.8.0(1)\r\n!\r\n", []string{"#1=00001234", "#2=5 V", "1.8.0=1"}},
		"blanks":         {" 1.8.0 (  12.3 * kWh ) (   )\n\n2.8.0(1)!", []string{"1.8.0=12.3 kWh", "1.8.0#2=", "2.8.0=1"}},
		"no unit":        {"1.8.0(1*)2.8.0(*)3.8.0(*kWh)", []string{"1.8.0=1*", "2.8.0=*", "3.8.0= kWh"}},
		"a slash":        {"0.2.0(/SX330)\r\n", []string{"0.2.0=/SX330"}},
		"name taken":     {"1.8.0#2(1)1.8.0(2)(3)1.8.0#2(4)", []string{"1.8.0#2=1", "1.8.0=2", "1.8.0#3=3", "1.8.0#2#2=4"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(test.block))
			require.NoError(t, err)
			require.Equal(t, test.want, fields(got))
			require.Zero(t, got.Time)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, test := range map[string]struct{ block, says string }{
		"no value":      {"1.8.0(1)\r\n1.8.1\r\n", `line 2: not in the format of IEC 62056-21: "1.8.1" is no data set`},
		"no end":        {"1.8.0(1", `"1.8.0(1" has no end`},
		"end lost":      {"1.8.0(1*kWh 2.8.0(5)", "has no end"},
		"start lost":    {"1.8.0)", "is no data set"},
		"after the end": {"1.8.0(1)\r\n!\r\n2.8.0(1)\r\n", "line 3 comes after the end"},
		"end inside":    {"1.8.0(1)!2.8.0(1)\r\n", "is no data set"},
		"control":       {"1.8.0(\x03)", "byte 6 is the control character 0x03"},
		"parity":        {"1.8.0(\xB1)", "byte 6 is 0xB1; characters have seven bits and even parity"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(test.block))
			require.ErrorIs(t, err, ErrFormat)
			require.ErrorContains(t, err, test.says)
			require.Empty(t, got)
		})
	}
}

func TestDecodeBounds(t *testing.T) {
	for name, test := range map[string]struct {
		atBound, beyond string
	}{
		"address": {strings.Repeat("1", maxAddress) + "(1)", strings.Repeat("1", maxAddress+1) + "(1)"},
		"value":   {"1(" + strings.Repeat("1", maxValue) + ")", "1(" + strings.Repeat("1", maxValue+1) + ")"},
		"values":  {"1" + strings.Repeat("(1)", telegram.MaxFields), "1" + strings.Repeat("(1)", telegram.MaxFields+1)},
		"message": {"1(1)" + strings.Repeat("\n", MaxMessage-4), "1(1)" + strings.Repeat("\n", MaxMessage-3)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(test.atBound))
			require.NoError(t, err)
			_, err = Decode([]byte(test.beyond))
			require.ErrorIs(t, err, ErrFormat)
		})
	}
}

// framed puts STX, ETX and the block check character around a block.
func framed(block string) string {
	text := block + "\x03"
	return "\x02" + text + string(rune(bcc([]byte(text))))
}

func TestDecodeMessage(t *testing.T) {
	for name, test := range map[string]struct {
		raw    string
		sender string
		fields int
		fails  error
	}{
		"framed":                  {framed(mt174), "", 6, nil},
		"framed, with sender":     {"/ISk5MT174-0001\r\n" + framed(mt174), "MT174-0001", 6, nil},
		"mode D":                  {q3d, "Q3DA1004 V3.04", 4, nil},
		"bare":                    {mt174, "", 6, nil},
		"of a register":           {framed("1.8.0(0000123.456*kWh)"), "", 1, nil},
		"with a command":          {"\x01P0\x02(12345678)\x03" + string(rune(bcc([]byte("P0\x02(12345678)\x03")))), "", 1, nil},
		"command only":            {"\x01B0\x03q", "", 0, ErrFormat},
		"check character wrong":   {framed(mt174)[:len(framed(mt174))-1] + "~", "", 0, ErrDamaged},
		"a digit wrong":           {strings.Replace(framed(mt174), "123.456", "123.457", 1), "", 0, ErrDamaged},
		"check character missing": {strings.TrimSuffix(framed(mt174), framed(mt174)[len(framed(mt174))-1:]), "", 0, ErrDamaged},
		"ETX missing":             {"\x02" + mt174, "", 0, ErrDamaged},
		"STX missing":             {framed(mt174)[1:], "", 0, ErrDamaged},
		"more behind":             {framed(mt174) + "\r\n", "", 0, ErrDamaged},
		"cut off":                 {q3d[:60], "", 0, ErrDamaged},
		"cut off in the end":      {strings.TrimSuffix(q3d, "\r\n"), "", 0, ErrDamaged},
		"only identification":     {"/ESY5Q3DA1004 V3.04", "", 0, ErrDamaged},
		"no identification":       {"/?!\r\n" + mt174, "", 0, ErrFormat},
		"right, and no data":      {framed("what?"), "", 0, ErrFormat},
		"empty":                   {"", "", 0, ErrDamaged},
		"too long":                {strings.Repeat("\n", MaxMessage-2) + "!\r\n", "", 0, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeMessage([]byte(test.raw))
			if test.fails != nil {
				require.ErrorIs(t, err, test.fails)
				require.Empty(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.sender, got.Sender)
			require.Len(t, got.Fields, test.fields)
		})
	}
}

func TestParseIdentification(t *testing.T) {
	for message, want := range map[string]Identification{
		"/ISk5MT174-0001\r\n":    {"ISk", '5', ModeC, 9600, 0, "MT174-0001"},
		"/ISk5\\2MT382-1000\r\n": {"ISk", '5', ModeC, 9600, '2', "MT382-1000"},
		"/ABB5\\@V9.21\r\n":      {"ABB", '5', ModeC, 9600, '@', "V9.21"},
		"/XYZ05":                 {"XYZ", '0', ModeC, 300, 0, "5"},
		"/XYZ6":                  {"XYZ", '6', ModeC, 19200, 0, ""},
		"/XYZ7x":                 {"XYZ", '7', ModeA, 0, 0, "x"},
		"/LUGCUH50":              {"LUG", 'C', ModeB, 2400, 0, "UH50"},
		"/XYZAx":                 {"XYZ", 'A', ModeB, 600, 0, "x"},
		"/XYZFx":                 {"XYZ", 'F', ModeB, 19200, 0, "x"},
		"/XYZGx":                 {"XYZ", 'G', ModeA, 0, 0, "x"},
		"/XYZ METER":             {"XYZ", ' ', ModeA, 0, 0, "METER"},
		"/XYZ5\\":                {"XYZ", '5', ModeC, 9600, 0, "\\"},
	} {
		got, err := ParseIdentification([]byte(message))
		require.NoError(t, err, message)
		require.Equal(t, want, got, message)
	}
	_, err := ParseIdentification([]byte("/XYZ5" + strings.Repeat("x", maxIdent)))
	require.NoError(t, err)
	for _, message := range []string{"", "/", "/XYZ", "XYZ5abc", "/X1Z5abc", "/XYZ5a/c", "/XYZ5a!c", "/XYZ5a\x02c", "/XYZ5a\xE4c", "/XYZ\x00abc", "/XYZ5" + strings.Repeat("x", maxIdent+1)} {
		_, err := ParseIdentification([]byte(message))
		require.ErrorIs(t, err, ErrFormat, message)
	}
}

func FuzzDecode(f *testing.F) {
	for _, block := range []string{zmd, mt174, t550, "(1)(2)\r\n1.8.0#2(1)1.8.0(1)(2)"} {
		f.Add([]byte(block))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		got, err := Decode(block)
		sound(t, got, err)
		again, err := DecodeMessage([]byte("/ISk5MT174-0001\r\n" + framed(string(block))))
		if err == nil {
			require.Equal(t, got.Fields, again.Fields)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	for _, raw := range []string{q3d, framed(mt174), "/ISk5MT174-0001\r\n" + framed(mt174)} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := DecodeMessage(raw)
		sound(t, got, err)
		if n := messageEnd(raw); n < 0 || n > len(raw) {
			t.Fatal(n)
		}
		if _, n, _ := identification(raw); n < 0 || n > len(raw) {
			t.Fatal(n)
		}
	})
}

// sound checks what every telegram keeps.
func sound(t *testing.T, got telegram.Telegram, err error) {
	if err != nil {
		require.Empty(t, got)
		return
	}
	require.LessOrEqual(t, len(got.Fields), telegram.MaxFields)
	names := map[string]bool{}
	for _, f := range got.Fields {
		require.NotEmpty(t, f.Name)
		require.False(t, names[f.Name], f.Name)
		names[f.Name] = true
		require.LessOrEqual(t, len(f.Text)+len(f.Unit), maxValue)
	}
}

func BenchmarkDecode(b *testing.B) {
	block := []byte(strings.Repeat(strings.TrimSuffix(zmd, "!\r\n"), 10))
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(block); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleDecode() {
	t, err := Decode([]byte("1.6.0(00.12*kW)(2026-01-01 00:00)\r\n1.8.0*05(0000123.456)\r\n!\r\n"))
	if err != nil {
		fmt.Println(err)
	}
	for _, f := range t.Fields {
		fmt.Printf("%s: %q %q\n", f.Name, f.Text, f.Unit)
	}
	// Output:
	// 1.6.0: "00.12" "kW"
	// 1.6.0#2: "2026-01-01 00:00" ""
	// 1.8.0*05: "0000123.456" ""
}
