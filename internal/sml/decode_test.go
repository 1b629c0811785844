package sml_test

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/sml"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

const (
	energy = "\x01\x00\x01\x08\x00\xff"
	power  = "\x01\x00\x10\x07\x00\xff"
	wh     = 30
	watt   = 27
)

func field(name, text, unit string) telegram.Field {
	return telegram.Field{Name: name, Text: text, Unit: unit}
}

func TestDecode(t *testing.T) {
	got, err := sml.Decode(push(
		entry("\x81\x81\xc7\x82\x03\xff", none, none, octetString("EMH")),
		entry("\x01\x00\x60\x01\x00\xff", none, none, octetString(server)),
		listOf(octetString(energy), u32(0x1c0104), listOf(u8(1), u32(77)), u8(wh), i8(-1), number(6, 5, 147981129), none),
		entry("\x01\x00\x01\x08\x00\x60", u8(wh), i8(-1), number(6, 2, 5)),
		entry(power, u8(watt), i8(-2), number(5, 3, uint64(1<<64-10550))),
		entry("\x01\x00\x20\x07\x00\xff", u8(35), none, number(6, 1, 230)),
		entry("\x01\x00\x0e\x07\x00\xff", u8(44), i8(-1), none),
		entry("\x01\x00\x60\x05\x00\xff", none, none, []byte{0x42, 0xff}),
		entry("\x01\x00\x60\x32\x01\x01", none, none, listOf(u8(2), octetString("x"))),
		entry("\x01\x00\x60\x08\x00\xff", none, none, listOf(u8(1), listOf(u8(1), u32(1982288)))),
		entry("\x01\x00\x00\x09\x01\xff", none, none, listOf(u8(1), listOf(u8(2), u32(1700000000)))),
		entry("\x01\x00\x00\x09\x02\xff", none, none, listOf(u8(1), none)),
		entry("\x81\x81\xc7\x82\x05\xff", u8(255), none, octetString(strings.Repeat("\xfe\x01", 24))),
		entry(energy, u8(99), i8(3), number(6, 8, 1<<64-1)),
	))
	require.NoError(t, err)
	require.Equal(t, telegram.Telegram{Sender: "1EMH0012345678", Fields: []telegram.Field{
		field("129-129:199.130.3", "EMH", ""),
		field("1-0:96.1.0", "1EMH0012345678", ""),
		field("1-0:1.8.0", "14798112.9", "Wh"),
		field("1-0:1.8.0#status", "1835268", ""),
		field("1-0:1.8.0*96", "0.5", "Wh"),
		field("1-0:16.7.0", "-105.50", "W"),
		field("1-0:32.7.0", "230", "V"),
		{Name: "1-0:14.7.0", Unit: "Hz", Quality: twin.Bad("empty")},
		field("1-0:96.5.0", "true", ""),
		{Name: "1-0:96.50.1*1", Quality: twin.Bad("unsupported")},
		field("1-0:96.8.0", "1982288", ""),
		field("1-0:0.9.1", "2023-11-14T22:13:20Z", ""),
		{Name: "1-0:0.9.2", Quality: twin.Bad("unsupported")},
		field("129-129:199.130.5", strings.Repeat("FE01", 24), ""),
		field("1-0:1.8.0#2", "18446744073709551615000", "unit-99"),
	}}, got)
}

// TestPublished decodes telegrams of real meters as SmlLib 1.7 (PyPI) publishes them with its tests.
func TestPublished(t *testing.T) {
	for name, test := range map[string]struct {
		raw  string
		want telegram.Telegram
	}{
		"DZG DVS74 (Frame1)": {
			`1b1b1b1b0101010176051c414c02620062007263010176010102310b0a01445a47000282c0b07262016505471c2a620263f9380076051d41
			4c02620062007263070177010b0a01445a47000282c0b0070100620affff7262016505471c2a747707010060320101017262016200620052
			0004445a470177070100600100ff017262016200620052000b0a01445a47000282c0b00177070100010800ff641c01047262016200621e52
			0363344f0177070100020800ff017262016200621e520362000101016393770076051e414c026200620072630201710163e6ba0000000000
			1b1b1b1b1a04dad0`,
			telegram.Telegram{Sender: "1DZG0042123440", Fields: []telegram.Field{
				field("1-0:96.50.1*1", "DZG", ""),
				field("1-0:96.1.0", "1DZG0042123440", ""),
				field("1-0:1.8.0", "13391000", "Wh"),
				field("1-0:1.8.0#status", "1835268", ""),
				field("1-0:2.8.0", "0", "Wh"),
			}},
		},
		"local time (Frame Issue #26)": {
			`1b1b1b1b010101017605c4acc7c062006200726301017601054562656505d2b35e770b0901454d480000cacf7e010163fa59007605c4acc7
			bf620062007263070177010b0901454d480000cacf7e078180817103ff72620165001e3f7d7477078182815401ff017262037365671b6322
			53003c53003c010105422ccd8c0177070100011100ff640000087262037365671b632353003c53003c621e52ff560000009e3c0177078100
			600800010101010172620172620165001e3f500177078180817101ff01010101650000000f018304c36d58a17f56377bc23212f85bd600d8
			ee69776b77beeb3d53b88037ac44f96465f8a2beffda63450d97c2ede9c8a1dd00030163b127007605c4acc7c16200620072630201710163
			7a1700001b1b1b1b1a01d863`,
			telegram.Telegram{Sender: "1EMH0013291390", Time: time.Date(2024, 10, 25, 9, 21, 38, 0, time.UTC), Fields: []telegram.Field{
				field("129-130:129.84.1", "422CCD8C", ""),
				field("1-0:1.17.0", "4050.8", "Wh"),
				field("1-0:1.17.0#status", "8", ""),
				field("129-0:96.8.0*1", "1982288", ""),
				field("129-128:129.113.1", "15", ""),
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := hex.DecodeString(strings.Join(strings.Fields(test.raw), ""))
			require.NoError(t, err)
			got, err := sml.Decode(raw)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestIntegers(t *testing.T) {
	for size := 1; size <= 8; size++ {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			most := uint64(1<<(8*size-1)) - 1
			got, err := sml.Decode(push(
				entry("\x01\x00\x01\x08\x00\xff", none, none, number(6, size, 1<<64-1)),
				entry("\x01\x00\x01\x08\x01\xff", none, none, number(5, size, most)),
				entry("\x01\x00\x01\x08\x02\xff", none, none, number(5, size, ^most)),
				entry("\x01\x00\x01\x08\x03\xff", none, none, number(5, size, 1<<64-1)),
			))
			require.NoError(t, err)
			require.Equal(t, []telegram.Field{
				field("1-0:1.8.0", strconv.FormatUint(2*most+1, 10), ""),
				field("1-0:1.8.1", strconv.FormatUint(most, 10), ""),
				field("1-0:1.8.2", strconv.FormatInt(int64(^most), 10), ""),
				field("1-0:1.8.3", "-1", ""),
			}, got.Fields)
		})
	}
}

func TestScalers(t *testing.T) {
	for _, test := range []struct {
		value  int64
		scaler int8
		want   string
	}{
		{0, 0, "0"},
		{0, 3, "0"},
		{0, -2, "0.00"},
		{5, 3, "5000"},
		{-5, 3, "-5000"},
		{5, -1, "0.5"},
		{-5, -1, "-0.5"},
		{12, -2, "0.12"},
		{123, -2, "1.23"},
		{-120, -2, "-1.20"},
		{1, 127, "1" + strings.Repeat("0", 127)},
		{1, -128, "0." + strings.Repeat("0", 127) + "1"},
	} {
		got, err := sml.Decode(push(entry(energy, none, i8(test.scaler), number(5, 8, uint64(test.value)))))
		require.NoError(t, err)
		require.Equal(t, test.want, got.Fields[0].Text, "%d e%d", test.value, test.scaler)
	}
	_, err := sml.Decode(push(entry(energy, none, number(5, 2, 128), u8(1))))
	require.ErrorIs(t, err, sml.ErrFormat)
}

func TestSenders(t *testing.T) {
	for name, test := range map[string]struct{ server, want string }{
		"edition of 2012":      {"\x0a\x01EMH\x00\x00\xbc\x61\x4e", "1EMH0012345678"},
		"edition of 2010":      {"\x09\x01ITR\x03\x00\x00\x00\x07", "1ITR0300000007"},
		"gas":                  {"\x0a\x07ELS\xff\x05\xf5\xe0\xff", "7ELSFF99999999"},
		"number too great":     {"\x0a\x01EMH\x00\x05\xf5\xe1\x00", "0A01454D480005F5E100"},
		"no letters":           {"\x0a\x01E1H\x00\x00\xbc\x61\x4e", "0A014531480000BC614E"},
		"medium of two digits": {"\x0a\x10EMH\x00\x00\xbc\x61\x4e", "0A10454D480000BC614E"},
		"before the norm":      {"\x06EMH\x01\x02\x71\x56\xcd\x45", "06454D4801027156CD45"},
		"text":                 {"02280816", "02280816"},
		"from its values":      {"", "meter 7"},
	} {
		t.Run(name, func(t *testing.T) {
			values := entry("\x01\x00\x60\x01\x00\xff", none, none, octetString("meter 7"))
			got, err := sml.Decode(frame(x25, message(x25, 0x0701, response(test.server, none, values))))
			require.NoError(t, err)
			require.Equal(t, test.want, got.Sender)
		})
	}
}

func TestTimes(t *testing.T) {
	const seconds = 1700000000
	clock := time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)
	local := listOf(u8(3), listOf(u32(seconds), number(5, 2, 60), number(5, 2, 60)))
	for name, test := range map[string]struct {
		at, valTime []byte
		want        time.Time
	}{
		"none":                 {none, none, time.Time{}},
		"counter":              {listOf(u8(1), u32(seconds)), none, time.Time{}},
		"clock":                {listOf(u8(2), u32(seconds)), none, clock},
		"clock not set":        {listOf(u8(2), u32(0)), none, time.Time{}},
		"clock with offsets":   {local, none, clock},
		"clock of a value":     {none, local, clock},
		"the sensor's first":   {local, listOf(u8(2), u32(1)), clock},
		"counter of Holley":    {none, u32(seconds), time.Time{}},
		"a form not known":     {listOf(u8(9), listOf(u8(1))), none, time.Time{}},
		"offsets under type 1": {listOf(u8(1), listOf(u32(seconds), none, none)), none, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			value := listOf(octetString(energy), none, test.valTime, none, none, u8(1), none)
			got, err := sml.Decode(frame(x25, message(x25, 0x0701, response(server, test.at, value))))
			require.NoError(t, err)
			require.Equal(t, test.want, got.Time)
		})
	}
	_, err := sml.Decode(frame(x25, message(x25, 0x0701, response(server, listOf(u8(2), number(6, 5, 1<<32))))))
	require.ErrorIs(t, err, sml.ErrFormat)
}

// TestPowerOfDZG has the power of a meter that says its unsigned numbers were signed.
func TestPowerOfDZG(t *testing.T) {
	meter := func(number uint64) string {
		return "\x0a\x01DZG\x00" + string([]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
	}
	for name, test := range map[string]struct {
		server string
		name   string
		value  []byte
		want   string
	}{
		"two bytes":        {meter(42000000), power, number(5, 2, 0x8025), "328.05"},
		"one byte":         {meter(48999999), power, number(5, 1, 0x80), "1.28"},
		"three bytes":      {meter(55000000), power, number(5, 3, 0x800000), "83886.08"},
		"negative":         {meter(58999999), power, number(5, 4, 0xfffe1393), "-1260.61"},
		"number below":     {meter(41999999), power, number(5, 2, 0x8025), "-327.31"},
		"between":          {meter(49000000), power, number(5, 2, 0x8025), "-327.31"},
		"number above":     {meter(59000000), power, number(5, 2, 0x8025), "-327.31"},
		"another value":    {meter(42000000), energy, number(5, 2, 0x8025), "-327.31"},
		"another maker":    {"\x0a\x01EMH\x00\x02\x80\xde\x80", power, number(5, 2, 0x8025), "-327.31"},
		"said as unsigned": {meter(42000000), power, number(6, 2, 0x8025), "328.05"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sml.Decode(frame(x25, message(x25, 0x0701, response(test.server, none, entry(test.name, u8(watt), i8(-2), test.value)))))
			require.NoError(t, err)
			require.Equal(t, test.want, got.Fields[0].Text)
		})
	}
}

func TestMessages(t *testing.T) {
	value := entry(energy, none, none, u8(1))
	other := entry(power, none, none, u8(2))
	for name, test := range map[string]struct {
		messages [][]byte
		want     []telegram.Field
	}{
		"two lists of one meter": {
			[][]byte{message(x25, 0x0701, response(server, none, value)), message(x25, 0x0701, response(server, none, value, other))},
			[]telegram.Field{field("1-0:1.8.0", "1", ""), field("1-0:1.8.0#2", "1", ""), field("1-0:16.7.0", "2", "")},
		},
		"an attention beside it": {
			[][]byte{message(x25, 0xff01, listOf(octetString(server), octetString("x"), none, none)), message(x25, 0x0701, response(server, none, value))},
			[]telegram.Field{field("1-0:1.8.0", "1", "")},
		},
		"a list without values": {[][]byte{message(x25, 0x0701, response(server, none))}, nil},
		"two meters": {
			[][]byte{message(x25, 0x0701, response(server, none, value)), message(x25, 0x0701, response("other", none, value))},
			nil,
		},
		"no list":    {[][]byte{message(x25, 0x0101, opening())}, nil},
		"no message": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sml.Decode(frame(x25, test.messages...))
			if test.want == nil && name != "a list without values" {
				require.ErrorIs(t, err, sml.ErrFormat)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got.Fields)
		})
	}
}
