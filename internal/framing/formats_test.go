package framing

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/checksum"
)

func algorithm(name string) checksum.Algorithm {
	a, ok := checksum.Find(name)
	if !ok {
		panic(name)
	}
	return a
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// epoch is when the tests begin.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// formats are the lines that the package was made for; tests and fuzz targets go over them.
func formats() map[string]Config {
	return map[string]Config{
		"lines": {Kind: Delimiter, Delimiter: []byte("\r\n")},
		"nmea":  NMEA('$'),
		// IEC 62056-21 section 6.3: BCC behind ETX, over what is behind STX, ETX included.
		"iec62056": {
			Kind: Between, Start: unhex("02"), End: unhex("03"), After: 1,
			Check: &Check{Algorithm: algorithm("bcc"), From: 1, At: -1},
		},
		// Mettler Toledo continuous output: STX, 16 bytes, CR, the sum of seven bits of all before.
		"toledo": {
			Kind: Between, Start: unhex("02"), End: unhex("0D"), After: 1, Max: 18,
			Check: &Check{Algorithm: algorithm("sum8-twos"), At: -1, Mask: 0x7f, SevenBit: true},
		},
		"pms5003": {
			Kind: Length, Start: unhex("424D"), Offset: 2, Width: 2, Adjust: 4, Max: 64,
			Check: &Check{Algorithm: algorithm("sum16"), At: -2},
		},
		"sds011": {
			Kind: Fixed, Start: unhex("AAC0"), End: unhex("AB"), Size: 10,
			Check: &Check{Algorithm: algorithm("sum8"), From: 2, At: 8},
		},
		// EN 13757-2, long frame: 68 L L 68, L bytes, their sum, 16.
		"mbus": {
			Kind: Length, Start: unhex("68"), End: unhex("16"), Offset: 1, Width: 1, Adjust: 6, Max: 261,
			Check: &Check{Algorithm: algorithm("sum8"), From: 4, At: -2},
		},
		"slip": {Kind: Delimiter, Delimiter: unhex("C0"), Escape: Escape{Mode: SLIP}},
		"hdlc": {
			Kind: Delimiter, Delimiter: unhex("7E"), Escape: Escape{Mode: HDLC},
			Check: &Check{Algorithm: algorithm("x-25"), At: -3, Little: true},
		},
		"dle": {Kind: Between, Start: unhex("1002"), End: unhex("1003"), Escape: Escape{Mode: Double, With: unhex("10")}},
		"sml": {
			Kind: Between, Start: unhex("1B1B1B1B01010101"), End: unhex("1B1B1B1B1A"), After: 3,
			Escape: Escape{Mode: Double, With: unhex("1B1B1B1B")},
		},
		"prefix": {
			Kind: Delimiter, Delimiter: []byte("\n"), Escape: Escape{Mode: Prefix, With: []byte(`\`)},
			Check: &Check{Algorithm: algorithm("crc-16/modbus"), At: -3},
		},
		"prefix start": {Kind: Between, Start: []byte("<"), End: []byte(">"), Escape: Escape{Mode: Prefix, With: []byte(`\`)}},
		"dsmr5": {
			Kind: Between, Start: []byte("/"), End: []byte("!"), After: 6, AfterDelimiter: []byte("\r\n"),
			Check: &Check{Algorithm: algorithm("crc-16/arc"), At: -6, Encoding: Hex},
		},
		"dsmr": {Kind: Between, Start: []byte("/"), End: []byte("!"), After: 6, AfterDelimiter: []byte("\r\n"), Restart: true},
		"rtu": {
			Kind: Silence, Gap: 50 * time.Millisecond, Max: 256,
			Check: &Check{Algorithm: algorithm("modbus"), At: -2, Little: true},
		},
		"silence": {Kind: Silence, Gap: 50 * time.Millisecond, Max: 32},
		"fixed":   {Kind: Fixed, Size: 6, Check: &Check{Algorithm: algorithm("crc-8/smbus"), At: -1}},
		"length le": {
			Kind: Length, Width: 2, Little: true, Adjust: 2, Max: 600, Gap: 50 * time.Millisecond,
			Check: &Check{Algorithm: algorithm("crc-32"), At: -4},
		},
		"fixed gap":      {Kind: Fixed, Size: 4, Gap: 50 * time.Millisecond},
		"binary check":   {Kind: Between, Start: []byte("{"), End: []byte("}"), Check: &Check{Algorithm: algorithm("sum8"), From: 1, At: -2}},
		"decimal check":  {Kind: Delimiter, Delimiter: []byte("\r"), Max: 40, Check: &Check{Algorithm: algorithm("sum8"), At: -4, Encoding: Decimal}},
		"check in front": {Kind: Delimiter, Delimiter: []byte(";"), Check: &Check{Algorithm: algorithm("xor8"), From: 2, Encoding: Hex}},
		"hex little":     {Kind: Delimiter, Delimiter: []byte("\r"), Start: []byte(":"), Check: &Check{Algorithm: algorithm("crc-16/modbus"), From: 1, At: -5, Encoding: Hex, Little: true}},
	}
}

// scan pushes a stream in one piece, lets it be quiet for long, and returns copies of the frames.
func scan(s *Scanner, b []byte) []Frame {
	s.Push(b, epoch())
	frames := drain(s)
	s.Quiet(epoch().Add(time.Hour))
	return append(frames, drain(s)...)
}

// drain returns copies of the frames that are there.
func drain(s *Scanner) []Frame {
	var frames []Frame
	for {
		f, ok := s.Next()
		if !ok {
			return frames
		}
		f.Data, f.Raw = append([]byte{}, f.Data...), append([]byte{}, f.Raw...)
		frames = append(frames, f)
	}
}

func datas(frames []Frame) []string {
	var list []string
	for _, f := range frames {
		list = append(list, string(f.Data))
	}
	return list
}

func TestFormatsHaveNoProblems(t *testing.T) {
	for name, c := range formats() {
		require.Empty(t, c.Problems(), name)
	}
}

// TestFormats has frames as instruments send them, with what lines do to them around.
func TestFormats(t *testing.T) {
	h := func(s string) string { return string(unhex(s)) }
	const gga = "GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"
	pms := h("424D 001C 0004 0006 0007 0004 0006 0007 02D9 00C4 0023 0006 0002 0000 9700 032E")
	sds := h("AAC0 D404 3A0A A160 1D AB")
	mbus := h("68 0F 0F 68 08 01 72 78 56 34 12 24 40 01 07 55 00 00 00 50 16")
	sml := h("1B1B1B1B01010101 7607 0011 1B1B1B1B 1B1B1B1B 1A 00 1B1B1B1B1A 01 AB CD")
	dsmr := "/ISk5\\2MT382-1000\r\n\r\n1-3:0.2.8(50)\r\n1-0:1.8.1(123456.789*kWh)\r\n"
	crc := algorithm("arc").Sum([]byte(dsmr + "!"))
	v5 := dsmr + "!" + strings.ToUpper(hex.EncodeToString([]byte{byte(crc >> 8), byte(crc)})) + "\r\n"
	for _, c := range []struct {
		name, format, stream string
		want                 []string
		count                Counters
	}{
		{"lines", "lines", "\r\nabc\r\n\r\n\r\nd\re\r\nrest", []string{"abc", "d\re"}, Counters{}},
		{"nmea", "nmea", "\x00~$" + gga + "*47\r\n$" + gga + "*48\r\n", []string{gga}, Counters{Damaged: 1, Skipped: 69}},
		{"nmea lower case", "nmea", "$GPRMC,,V,,,,,,,,,,N*53\r\n$" + "GPTXT,z*0a\r\n", []string{"GPRMC,,V,,,,,,,,,,N"}, Counters{Damaged: 1, Skipped: 13}},
		{"nmea cut off", "nmea", "$GPGGA,1235$" + gga + "*47\r\n", []string{gga}, Counters{Damaged: 1, Skipped: 11}},
		{"nmea without check", "nmea", "$" + gga + "\r\n$" + gga + "*47\r\n", []string{gga}, Counters{Damaged: 1, Skipped: 64}},
		{"iec62056", "iec62056", "\x021.8.0(000123.4*kWh)\r\n!\r\n\x03" + string(rune(xor("1.8.0(000123.4*kWh)\r\n!\r\n\x03"))), []string{"1.8.0(000123.4*kWh)\r\n!\r\n"}, Counters{}},
		{"iec62056 wrong bcc", "iec62056", "\x02A\x03\x02A\x03\x42B", []string{"A"}, Counters{Damaged: 1, Skipped: 4}},
		{"toledo", "toledo", h("02 B4 B0 20 202031323334202020203030 0D") + string([]byte{toledo(h("02 B4 B0 20 202031323334202020203030 0D"))}), []string{h("B4 B0 20 202031323334202020203030")}, Counters{}},
		{"pms5003", "pms5003", h("42 42") + pms + pms, []string{pms, pms}, Counters{Skipped: 2}},
		{"pms5003 wrong length before", "pms5003", h("424D 0038") + pms + pms, []string{pms, pms}, Counters{Damaged: 1, Skipped: 4}},
		{"sds011", "sds011", "\xaa\xaa" + sds, []string{sds}, Counters{Skipped: 2}},
		{"sds011 tail", "sds011", sds[:9] + "\xac" + sds, []string{sds}, Counters{Damaged: 1, Skipped: 10}},
		{"mbus", "mbus", "\xe5" + mbus, []string{mbus}, Counters{Skipped: 1}},
		{"slip", "slip", h("C0 01 DBDC 02 DBDD C0 C0 DBDB C0 03 C0"), []string{h("01C002DB"), h("03")}, Counters{Damaged: 1, Skipped: 3}},
		// RFC 1662 has the polynomial; "123456789" has 906E.
		{"hdlc", "hdlc", "\x7e123456789\x6e\x90\x7e\x7e12345678\x7d\x19\x6e\x90\x7e12\x7d\x7e", []string{"123456789", "123456789"}, Counters{Damaged: 1, Skipped: 4}},
		{"dle", "dle", h("1003 1002 41 1010 42 1003 1002 1010 1003"), []string{h("411042"), h("10")}, Counters{Skipped: 2}},
		{"dle cut off", "dle", h("1002 4142 1002 43 1003"), []string{"C"}, Counters{Damaged: 1, Skipped: 4}},
		{"dle lone", "dle", h("1002 41 1041 1003 1002 43 1003"), []string{"C"}, Counters{Damaged: 1, Skipped: 7}},
		{"sml", "sml", "\x1b" + sml + sml, []string{h("76070011 1B1B1B1B 1A 00"), h("76070011 1B1B1B1B 1A 00")}, Counters{Skipped: 1}},
		{"sml with a run", "sml", h("1B1B1B1B01010101 76 1B1B1B 1B1B1B1B1A 00 AB CD"), []string{h("76 1B1B1B")}, Counters{}},
		{"dsmr 5", "dsmr5", "kWh)\r\n!" + v5 + v5, []string{dsmr[1:], dsmr[1:]}, Counters{Skipped: 7}},
		{"dsmr 5 damaged", "dsmr5", strings.Replace(v5, "456", "457", 1) + v5, []string{dsmr[1:]}, Counters{Damaged: 1, Skipped: uint64(len(v5))}},
		{"dsmr 2", "dsmr", dsmr + "!\r\n" + v5, []string{dsmr[1:], dsmr[1:]}, Counters{}},
		{"dsmr cut off", "dsmr", dsmr[:30] + dsmr + "!\r\n", []string{dsmr[1:]}, Counters{Damaged: 1, Skipped: 30}},
		{"dsmr without end", "dsmr", dsmr + "!1234567\r\n" + dsmr + "!\r\n", []string{dsmr[1:]}, Counters{Damaged: 1, Skipped: uint64(len(dsmr)) + 10}},
		{"rtu", "rtu", h("01 03 02 00 FA 38 07"), []string{h("010302 00FA")}, Counters{}},
		{"rtu damaged", "rtu", h("01 03 02 00 FB 38 07"), nil, Counters{Damaged: 1, Skipped: 7}},
		{"prefix", "prefix start", `x<a\>b\\>`, []string{`a>b\`}, Counters{Skipped: 1}},
		{"check like the end", "binary check", "{>?}}{B" + "B}", []string{">?", "B"}, Counters{}},
		{"check in front", "check in front", "78AB@;", []string{"AB@"}, Counters{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewScanner(formats()[c.format])
			frames := scan(s, []byte(c.stream))
			require.Equal(t, c.want, datas(frames))
			c.count.Frames = uint64(len(c.want))
			require.Equal(t, c.count, s.Counters())
			for _, f := range frames {
				require.Equal(t, c.stream[f.Start:int(f.Start)+len(f.Raw)], string(f.Raw))
			}
		})
	}
}

func xor(s string) byte { return byte(algorithm("bcc").Sum([]byte(s))) }

// toledo is the checksum of Mettler Toledo's continuous output, computed as its manuals describe it.
func toledo(s string) byte {
	var n byte
	for _, c := range []byte(s) {
		n += c & 0x7f
	}
	return -n & 0x7f
}
