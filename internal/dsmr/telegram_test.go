package dsmr

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/telegram"
)

// v5 and v3 are the examples of the P1 Companion Standards 5.0.2 and 3.0, v3
// without its long message. The CRC printed in 5.0.2, EF2F, is not that of the text printed there; E47C is,
// and is what others have computed for it as well.
const (
	v5 = "/ISk5\\2MT382-1000\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(101209113020W)\r\n0-0:96.1.1(4B384547303034303436333935353037)\r\n" +
		"1-0:1.8.1(123456.789*kWh)\r\n1-0:1.8.2(123456.789*kWh)\r\n1-0:2.8.1(123456.789*kWh)\r\n1-0:2.8.2(123456.789*kWh)\r\n" +
		"0-0:96.14.0(0002)\r\n1-0:1.7.0(01.193*kW)\r\n1-0:2.7.0(00.000*kW)\r\n0-0:96.7.21(00004)\r\n0-0:96.7.9(00002)\r\n" +
		"1-0:99.97.0(2)(0-0:96.7.19)(101208152415W)(0000000240*s)(101208151004W)(0000000301*s)\r\n" +
		"1-0:32.32.0(00002)\r\n1-0:52.32.0(00001)\r\n1-0:72.32.0(00000)\r\n1-0:32.36.0(00000)\r\n1-0:52.36.0(00003)\r\n1-0:72.36.0(00000)\r\n" +
		"0-0:96.13.0(303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F)\r\n" +
		"1-0:32.7.0(220.1*V)\r\n1-0:52.7.0(220.2*V)\r\n1-0:72.7.0(220.3*V)\r\n1-0:31.7.0(001*A)\r\n1-0:51.7.0(002*A)\r\n1-0:71.7.0(003*A)\r\n" +
		"1-0:21.7.0(01.111*kW)\r\n1-0:41.7.0(02.222*kW)\r\n1-0:61.7.0(03.333*kW)\r\n1-0:22.7.0(04.444*kW)\r\n1-0:42.7.0(05.555*kW)\r\n1-0:62.7.0(06.666*kW)\r\n" +
		"0-1:24.1.0(003)\r\n0-1:96.1.0(3232323241424344313233343536373839)\r\n0-1:24.2.1(101209112500W)(12785.123*m3)\r\n!E47C\r\n"
	v3 = "/ISk5\\2MT382-1000\r\n\r\n0-0:96.1.1(4B384547303034303436333935353037)\r\n1-0:1.8.1(12345.678*kWh)\r\n1-0:1.8.2(12345.678*kWh)\r\n" +
		"1-0:2.8.1(12345.678*kWh)\r\n1-0:2.8.2(12345.678*kWh)\r\n0-0:96.14.0(0002)\r\n1-0:1.7.0(001.19*kW)\r\n1-0:2.7.0(000.00*kW)\r\n" +
		"0-0:17.0.0(016*A)\r\n0-0:96.3.10(1)\r\n0-0:96.13.1(303132333435363738)\r\n0-0:96.13.0()\r\n" +
		"0-1:96.1.0(3232323241424344313233343536373839)\r\n0-1:24.1.0(03)\r\n" +
		"0-1:24.3.0(090212160000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00001.001)\r\n0-1:24.4.0(1)\r\n!\r\n"
)

// belgian was written after the e-MUCS P1 specification 1.7.1, and sagemcom after
// the P1 description of Luxembourg and Austria; neither is recorded.
const (
	belgian = "/FLU5\\253770234_A\r\n\r\n0-0:96.1.4(50217)\r\n0-0:96.1.1(3153414731313030303030303230)\r\n0-0:1.0.0(230712101500S)\r\n" +
		"1-0:1.8.1(000034.040*kWh)\r\n1-0:1.4.0(02.351*kW)\r\n1-0:1.6.0(230704120000S)(05.329*kW)\r\n" +
		"0-0:98.1.0(2)(1-0:1.6.0)(1-0:1.6.0)(230501000000S)(230423192538S)(03.695*kW)(230601000000S)(632525252525W)(00.000*kW)\r\n" +
		"0-0:96.3.10(1)\r\n0-0:96.13.0()\r\n0-1:24.1.0(003)\r\n0-1:96.1.1(37464C4F32313230303030303130)\r\n0-1:96.1.2()\r\n" +
		"0-1:24.2.3(632525252525S)(00000.000)\r\n0-2:24.1.0(007)\r\n0-2:24.2.1(230712100500S)(00872.234*m3)\r\n"
	sagemcom = "/EST5\\253710000_A\r\n\r\n0-0:42.0.0(53414731303330373030303030303030)\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(221006155014S)\r\n1-0:1.8.0(006545766*Wh)\r\n1-0:4.7.0(000000166*var)\r\n"
)

// sealed adds the end with its CRC, computed bit by bit.
func sealed(body string) string {
	var crc uint16
	for _, c := range []byte(body + "!") {
		crc ^= uint16(c)
		for range 8 {
			crc = crc>>1 ^ 0xA001*(crc&1)
		}
	}
	return fmt.Sprintf("%s!%04X\r\n", body, crc)
}

// fields are the fields as "name=text unit".
func fields(t telegram.Telegram) []string {
	var s []string
	for _, f := range t.Fields {
		s = append(s, strings.TrimSpace(f.Name+"="+f.Text+" "+f.Unit+" "+string(f.Quality)))
	}
	return s
}

func TestDecode(t *testing.T) {
	got, err := Decode([]byte(v5))
	require.NoError(t, err)
	require.Equal(t, "K8EG004046395507", got.Sender)
	require.Equal(t, time.Date(2010, 12, 9, 10, 30, 20, 0, time.UTC), got.Time)
	require.Equal(t, []string{
		"1-3:0.2.8=50", "0-0:1.0.0=101209113020W", "0-0:96.1.1=K8EG004046395507",
		"1-0:1.8.1=123456.789 kWh", "1-0:1.8.2=123456.789 kWh", "1-0:2.8.1=123456.789 kWh", "1-0:2.8.2=123456.789 kWh",
		"0-0:96.14.0=0002", "1-0:1.7.0=01.193 kW", "1-0:2.7.0=00.000 kW", "0-0:96.7.21=00004", "0-0:96.7.9=00002",
		"1-0:99.97.0=2", "1-0:99.97.0#2=0-0:96.7.19", "1-0:99.97.0#3=101208152415W", "1-0:99.97.0#4=0000000240 s", "1-0:99.97.0#5=101208151004W", "1-0:99.97.0#6=0000000301 s",
		"1-0:32.32.0=00002", "1-0:52.32.0=00001", "1-0:72.32.0=00000", "1-0:32.36.0=00000", "1-0:52.36.0=00003", "1-0:72.36.0=00000",
		"0-0:96.13.0=" + strings.Repeat("0123456789:;<=>?", 5),
		"1-0:32.7.0=220.1 V", "1-0:52.7.0=220.2 V", "1-0:72.7.0=220.3 V", "1-0:31.7.0=001 A", "1-0:51.7.0=002 A", "1-0:71.7.0=003 A",
		"1-0:21.7.0=01.111 kW", "1-0:41.7.0=02.222 kW", "1-0:61.7.0=03.333 kW", "1-0:22.7.0=04.444 kW", "1-0:42.7.0=05.555 kW", "1-0:62.7.0=06.666 kW",
		"0-1:24.1.0=003", "0-1:96.1.0=2222ABCD123456789", "0-1:24.2.1=12785.123 m3", "0-1:24.2.1@time=101209112500W",
	}, fields(got))
}

func TestDecodeVersions(t *testing.T) {
	for name, test := range map[string]struct {
		raw    string
		sender string
		time   time.Time
		has    []string
	}{
		"DSMR 3": {v3, "K8EG004046395507", time.Time{}, []string{
			"0-0:96.13.1=012345678", "0-0:96.13.0=",
			"0-1:24.3.0=00001.001 m3", "0-1:24.3.0@time=090212160000", "0-1:24.3.0#2=00", "0-1:24.3.0#3=60", "0-1:24.3.0#4=1", "0-1:24.3.0#5=0-1:24.2.1", "0-1:24.3.0#6=m3", "0-1:24.4.0=1",
		}},
		"DSMR 3, no gas meter": {
			strings.Replace(v3, "0-1:24.3.0(090212160000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00001.001)", "0-1:24.3.0(632525252525)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00000.000)", 1),
			"K8EG004046395507",
			time.Time{},
			[]string{"0-1:24.3.0=00000.000 m3 bad:time", "0-1:24.3.0@time=632525252525  bad:time"},
		},
		"Belgium": {sealed(belgian), "1SAG1100000020", time.Date(2023, 7, 12, 8, 15, 0, 0, time.UTC), []string{
			"0-0:96.1.4=50217", "1-0:1.6.0=05.329 kW", "1-0:1.6.0@time=230704120000S",
			"0-0:98.1.0=2", "0-0:98.1.0#4=230501000000S", "0-0:98.1.0#6=03.695 kW", "0-0:98.1.0#8=632525252525W",
			"0-1:96.1.1=7FLO2120000010", "0-1:96.1.2=", "0-1:24.2.3=00000.000  bad:time", "0-1:24.2.3@time=632525252525S  bad:time", "0-2:24.2.1=00872.234 m3", "0-2:24.2.1@time=230712100500S",
		}},
		"Luxembourg, decrypted": {sealed(sagemcom), "EST5\\253710000_A", time.Date(2022, 10, 6, 13, 50, 14, 0, time.UTC), []string{"0-0:42.0.0=SAG1030700000000", "1-0:1.8.0=006545766 Wh", "1-0:4.7.0=000000166 var"}},
		"only identification":   {"/XYZ5x\r\n!\r\n", "XYZ5x", time.Time{}, nil},
		"line ends":             {"/XYZ5x\n\n1-0:1.8.0(1)\n!\n", "XYZ5x", time.Time{}, []string{"1-0:1.8.0=1"}},
		"cut after the CRC":     {strings.TrimSuffix(v5, "\r\n"), "K8EG004046395507", time.Date(2010, 12, 9, 10, 30, 20, 0, time.UTC), []string{"1-3:0.2.8=50"}},
		"small digits":          {strings.Replace(v5, "E47C", "e47c", 1), "K8EG004046395507", time.Date(2010, 12, 9, 10, 30, 20, 0, time.UTC), []string{"1-3:0.2.8=50"}},
		"no text":               {"/x\r\n0-0:96.1.1(00000000000000)\r\n0-0:96.13.0(3039)(C3BC)(FF)(30390)(xyz)\r\n0-1:96.1.0(6D0A)\r\n!\r\n", "00000000000000", time.Time{}, []string{"0-0:96.1.1=00000000000000", "0-0:96.13.0=09", "0-0:96.13.0#2=ü", "0-0:96.13.0#3=FF", "0-0:96.13.0#4=30390", "0-0:96.13.0#5=xyz"}},
		"a number filled up":    {"/x\r\n0-0:96.1.1(204B413655)\r\n!\r\n", "KA6U", time.Time{}, []string{"0-0:96.1.1=KA6U"}},
		"no number":             {"/x\r\n0-0:96.1.1()\r\n!\r\n", "x", time.Time{}, []string{"0-0:96.1.1="}},
		"no time":               {"/x\r\n0-0:1.0.0(101309113020W)\r\n!\r\n", "x", time.Time{}, []string{"0-0:1.0.0=101309113020W  bad:time"}},
		"the next century":      {"/x\r\n0-0:1.0.0(700101010000W)\r\n!\r\n", "x", time.Date(2070, 1, 1, 0, 0, 0, 0, time.UTC), nil},
		"code again":            {"/x\r\n1-0:1.8.0(1)(2)\r\n1-0:1.8.0(3)(4)\r\n0-1:24.2.1(101209112500W)(1)\r\n0-1:24.2.1(101209112500W)(2)\r\n!\r\n", "x", time.Time{}, []string{"1-0:1.8.0=1", "1-0:1.8.0#2=2", "1-0:1.8.0#3=3", "1-0:1.8.0#2#2=4", "0-1:24.2.1=1", "0-1:24.2.1#2=2", "0-1:24.2.1@time#2=101209112500W"}},
		"a list with a time":    {"/x\r\n0-0:98.1.0(230801000000S)(000663.924*kWh)(1*kWh)\r\n!\r\n", "x", time.Time{}, []string{"0-0:98.1.0=230801000000S", "0-0:98.1.0#2=000663.924 kWh", "0-0:98.1.0#3=1 kWh"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(test.raw))
			require.NoError(t, err)
			require.Equal(t, test.sender, got.Sender)
			require.Equal(t, test.time, got.Time)
			require.Subset(t, fields(got), test.has)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	body := strings.TrimSuffix(v5, "!E47C\r\n")
	for name, test := range map[string]struct {
		raw  string
		is   error
		says string
	}{
		"empty":                  {"", ErrFormat, "does not begin"},
		"a piece":                {v5[10:], ErrFormat, `it does not begin with "/"`},
		"encrypted":              {"\xDB\x08SAG\x00", ErrEncrypted, "P1 telegram: the telegram is encrypted, which is not supported"},
		"no end":                 {body, ErrFormat, `no "!" at the end`},
		"a digit wrong":          {strings.Replace(v5, "01.193", "01.194", 1), ErrChecksum, "wrong checksum: E47C and not"},
		"CRC wrong":              {body + "!E47D\r\n", ErrChecksum, "E47D and not E47C"},
		"CRC missing":            {body + "!\r\n", ErrChecksum, "none, and this version has one"},
		"CRC missing, Belgium":   {belgian + "!\r\n", ErrChecksum, "none, and this version has one"},
		"CRC cut off":            {body + "!E47", ErrChecksum, `"E47" is none`},
		"CRC no digits":          {body + "!E47G\r\n", ErrChecksum, `"E47G" is none`},
		"CRC signed":             {body + "!+E47\r\n", ErrChecksum, `"+E47" is none`},
		"cut off at the end":     {body + "!", ErrChecksum, `it ends with "!"`},
		"more behind":            {v5 + "/ISk5", ErrChecksum, "is none"},
		"DSMR 3 and more":        {v3 + "\r\n", ErrChecksum, "is none"},
		"no code":                {"/x\r\n(1)\r\n!\r\n", ErrFormat, `line 2: no P1 telegram: "(1)" has no code`},
		"no value":               {"/x\r\n1-0:1.8.0\r\n!\r\n", ErrFormat, "is no OBIS code with a value"},
		"value without an end":   {"/x\r\n1-0:1.8.0(1\r\n!\r\n", ErrFormat, "has no end"},
		"end lost":               {"/x\r\n1-0:1.8.0(1(2)\r\n!\r\n", ErrFormat, "has no end"},
		"text behind":            {"/x\r\n1-0:1.8.0(1)2\r\n!\r\n", ErrFormat, `"2" between values`},
		"not printable":          {"/x\r\n1-0:1.8.0(\xFF)\r\n!\r\n", ErrFormat, "is not printable"},
		"who is not printable":   {"/x\x00\r\n!\r\n", ErrFormat, "the identification is not printable"},
		"our own sign in a code": {"/x\r\n1-0:1.8.0@time(1)\r\n!\r\n", ErrFormat, "is no OBIS code with a value"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(test.raw))
			require.ErrorIs(t, err, test.is)
			require.ErrorContains(t, err, test.says)
			require.Empty(t, got)
		})
	}
}

func TestDecodeBounds(t *testing.T) {
	const head, end = "/x\r\n", "!\r\n"
	message := func(n int) string {
		return head + "0-0:96.13.0(" + strings.Repeat("30", n) + ")" + "\r\n" + end
	}
	long := func(n int) string { return head + "1(" + strings.Repeat("1", n-3) + ")\r\n" + end }
	values := func(n int) string {
		return head + "1" + strings.Repeat("(1)", n/2) + "\r\n" + strings.Repeat("(1)", n-n/2) + "\r\n" + end
	}
	codes := func(n int) string { return head + strings.Repeat("1(1)\r\n", n) + end }
	size := func(n int) string { return head + strings.Repeat("\n", n-len(head)-len(end)) + end }
	for name, test := range map[string]struct{ atBound, beyond string }{
		"line":   {long(maxLine), long(maxLine + 1)},
		"values": {values(telegram.MaxFields), values(telegram.MaxFields + 1)},
		"codes":  {codes(telegram.MaxFields), codes(telegram.MaxFields + 1)},
		"size":   {size(MaxTelegram), size(MaxTelegram + 1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(test.atBound))
			require.NoError(t, err)
			_, err = Decode([]byte(test.beyond))
			require.ErrorIs(t, err, ErrFormat)
		})
	}
	got, err := Decode([]byte(message(1024)))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("0", 1024), got.Fields[0].Text)
}

func FuzzDecode(f *testing.F) {
	for _, raw := range []string{v5, v3, sealed(belgian), sealed(sagemcom)} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		check(t, raw)
		check(t, []byte(sealed("/x\r\n"+string(raw)+"\r\n")))
	})
}

// check decodes, and checks what every telegram keeps.
func check(t *testing.T, raw []byte) {
	got, err := Decode(raw)
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
		require.True(t, f.Quality.Valid())
	}
	if !got.Time.IsZero() {
		require.Equal(t, time.UTC, got.Time.Location())
	}
}

func BenchmarkDecode(b *testing.B) {
	b.SetBytes(int64(len(v5)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode([]byte(v5)); err != nil {
			b.Fatal(err)
		}
	}
}
