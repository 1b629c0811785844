package framing

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/checksum"
)

func TestProblems(t *testing.T) {
	lines := Config{Kind: Delimiter, Delimiter: []byte("\n")}
	between := Config{Kind: Between, Start: []byte("<"), End: []byte(">")}
	double := Config{Kind: Between, Start: unhex("1002"), End: unhex("1003"), Escape: Escape{Double, unhex("10")}}
	foreign := Config{
		Kind: Silence, Gap: 1, Delimiter: []byte("x"), Start: []byte("x"), End: []byte("x"), Restart: true, After: 1,
		AfterDelimiter: []byte("x"), Size: 1, Offset: 1, Width: 1, Little: true, Adjust: 1, Escape: Escape{Mode: SLIP},
	}
	check := Check{Algorithm: algorithm("sum8"), At: -2}
	for _, c := range []struct {
		name string
		of   Config
		edit func(c *Config, k *Check)
		keys string
	}{
		{"nothing", Config{}, nil, "kind"},
		{"unknown kind", Config{Kind: "lines"}, nil, "kind"},
		{"no delimiter", Config{Kind: Delimiter}, nil, "delimiter"},
		{"no start nor end", Config{Kind: Between}, nil, "start end"},
		{"no size", Config{Kind: Fixed, Start: []byte("x")}, nil, "size"},
		{"no width", Config{Kind: Length, Start: []byte("x")}, nil, "width"},
		{"no gap", Config{Kind: Silence}, nil, "gap"},
		{"blocks without a place", Config{Kind: Fixed, Size: 4}, nil, "start"},
		{"blocks with a gap", Config{Kind: Fixed, Size: 4, Gap: 1}, nil, ""},
		{"foreign settings", foreign, nil, "delimiter start end restart after afterDelimiter escape.mode size offset width little adjust restart"},
		{"size below its parts", Config{Kind: Fixed, Size: 2, Start: []byte("xx"), End: []byte("y")}, nil, "size"},
		{"size too large", Config{Kind: Fixed, Size: MaxFrame + 1, Start: []byte("xx")}, nil, "size"},
		{"width too large", Config{Kind: Length, Width: 5, Start: []byte("xx")}, nil, "width"},
		{"negative", Config{Kind: Length, Width: 1, Offset: -1, Adjust: -MaxFrame - 1, Start: []byte("xx")}, nil, "offset adjust"},
		{"start is end", between, func(c *Config, _ *Check) { c.End = c.Start }, "start"},
		{"after", between, func(c *Config, _ *Check) { c.After = -1 }, "after"},
		{"no room for afterDelimiter", between, func(c *Config, _ *Check) { c.After, c.AfterDelimiter = 1, []byte("\r\n") }, "after"},
		{"negative gap", lines, func(c *Config, _ *Check) { c.Gap = -time.Second }, "gap"},
		{"max", lines, func(c *Config, _ *Check) { c.Max = MaxFrame + 1 }, "max"},
		{"largest max", lines, func(c *Config, _ *Check) { c.Max = MaxFrame }, ""},
		{"max negative", lines, func(c *Config, _ *Check) { c.Max = -1 }, "max"},
		{"max too small", between, func(c *Config, _ *Check) { c.Max, c.After = 3, 1 }, "max"},
		{"smallest max", between, func(c *Config, _ *Check) { c.Max, c.After = 4, 1 }, ""},
		{"max below size", Config{Kind: Fixed, Size: 10, Max: 9, Start: []byte("x")}, nil, "max"},
		{"restart without start", lines, func(c *Config, _ *Check) { c.Restart = true }, "restart"},
		{"unknown mode", lines, func(c *Config, _ *Check) { c.Escape.Mode = "cobs" }, "escape.mode"},
		{"with without mode", lines, func(c *Config, _ *Check) { c.Escape.With = []byte("x") }, "escape.mode"},
		{"slip without C0", lines, func(c *Config, _ *Check) { c.Escape = Escape{SLIP, []byte("x")} }, "escape.mode escape.with"},
		{"hdlc without 7E", lines, func(c *Config, _ *Check) { c.Escape.Mode = HDLC }, "escape.mode"},
		{"prefix of two", lines, func(c *Config, _ *Check) { c.Escape = Escape{Prefix, []byte("xy")} }, "escape.with"},
		{"prefix in the end", lines, func(c *Config, _ *Check) { c.Escape = Escape{Prefix, []byte("\n")} }, "escape.with"},
		{"double of two", double, func(c *Config, _ *Check) { c.Escape.With = []byte("xy") }, "escape.with"},
		{"double of nothing", double, func(c *Config, _ *Check) { c.Escape.With = nil }, "escape.with"},
		{"double that is the end", double, func(c *Config, _ *Check) { c.End = unhex("10") }, "escape.with"},
		{"double apart from the end", double, func(c *Config, _ *Check) { c.End = unhex("03") }, "escape.with"},
		{"double in the start", double, func(c *Config, _ *Check) { c.Start = unhex("1010") }, "start"},
		{"double, start like end", double, func(c *Config, _ *Check) { c.Start = unhex("100301") }, "start"},
		{"double, start apart", double, func(c *Config, _ *Check) { c.Start = unhex("02") }, ""},
		{"check", lines, func(*Config, *Check) {}, ""},
		{"no algorithm", lines, func(_ *Config, k *Check) { k.Algorithm = checksum.Algorithm{} }, "check.algorithm"},
		{"encoding", lines, func(_ *Config, k *Check) { k.Encoding = "base64" }, "check.encoding"},
		{"binary digits", lines, func(_ *Config, k *Check) { k.Digits = 2 }, "check.digits"},
		{"too few digits", lines, func(_ *Config, k *Check) { k.Encoding, k.Digits, k.At = Hex, 1, -2 }, "check.digits"},
		{"few digits and a mask", lines, func(_ *Config, k *Check) { k.Encoding, k.Digits, k.Mask, k.At = Hex, 1, 0x0f, -2 }, ""},
		{"too many digits", lines, func(_ *Config, k *Check) { k.Encoding, k.Digits = Hex, 17 }, "check.digits"},
		{"little digit", lines, func(_ *Config, k *Check) { k.Encoding, k.Digits, k.Little, k.At = Hex, 3, true, -4 }, "check.little"},
		{"little decimal", lines, func(_ *Config, k *Check) { k.Encoding, k.Little, k.At = Decimal, true, -4 }, "check.little"},
		{"wide decimal", lines, func(_ *Config, k *Check) { k.Encoding, k.Algorithm = Decimal, algorithm("crc-64") }, "check.encoding"},
		{"wide hex", lines, func(_ *Config, k *Check) { k.Encoding, k.Algorithm, k.At = Hex, algorithm("crc-64"), -17 }, ""},
		{"mask of nothing", lines, func(_ *Config, k *Check) { k.Mask = 0x100 }, "check.mask"},
		{"check in the end", lines, func(_ *Config, k *Check) { k.At = -1 }, "check.at"},
		{"check across the end", between, func(c *Config, k *Check) { c.After, k.At, k.Algorithm = 1, -2, algorithm("sum16") }, "check.at"},
		{"check in the start", between, func(_ *Config, k *Check) { k.At, k.From = 0, 2 }, "check.at"},
		{"check behind the frame", between, func(c *Config, k *Check) { c.After, k.At, k.Algorithm = 1, -1, algorithm("sum16") }, "check.at"},
		{"check in afterDelimiter", between, func(c *Config, k *Check) { c.After, c.AfterDelimiter, k.At = 3, []byte("\r\n"), -2 }, "check.at"},
		{"check before afterDelimiter", between, func(c *Config, k *Check) { c.After, c.AfterDelimiter, k.At = 3, []byte("\r\n"), -3 }, ""},
		{"check anywhere", between, func(c *Config, k *Check) { c.After, c.AfterDelimiter, k.At = 3, []byte("\r\n"), -5 }, "check.at"},
		{"check outside", Config{Kind: Fixed, Size: 4}, func(_ *Config, k *Check) { k.At = 4 }, "check.at"},
		{"check covers itself", lines, func(_ *Config, k *Check) { k.From, k.To = -3, -1 }, "check.from"},
		{"check covers nothing", lines, func(_ *Config, k *Check) { k.From = -2; k.At = -2 }, "check.from"},
		{"to before from", lines, func(_ *Config, k *Check) { k.From, k.To = 4, 2 }, "check.to"},
		{"restart with a check", between, func(c *Config, _ *Check) { c.Restart = true }, "restart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, k := c.of, check
			if c.edit != nil {
				before := config
				c.edit(&config, &k)
				if strings.HasPrefix(c.keys, "check") || k.At != check.At || strings.Contains(c.name, "check") || strings.Contains(c.name, "mask") {
					config.Check = &k
				}
				require.NotEqual(t, before.Kind, Kind(""))
			}
			var keys []string
			for _, p := range config.Problems() {
				keys = append(keys, p.Key)
				require.NotEmpty(t, p.What)
				require.NotEmpty(t, p.Remedy)
			}
			require.Equal(t, c.keys, strings.Join(keys, " "))
		})
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct{ format, payload, want string }{
		{"lines", "AT", "AT\r\n"},
		{"lines", "AT\r\n", "AT\r\n"},
		{"lines", "", "\r\n"},
		{"nmea", "PMTK000", "$PMTK000*32\r\n"},
		{"iec62056", "R5", "\x02R5\x03\x64"},
		{"slip", "a\xc0\xdb", "a\xdb\xdc\xdb\xdd\xc0"},
		{"hdlc", "123456789", "123456789\x6e\x90\x7e"},
		{"dle", "\x10\x03", "\x10\x02\x10\x10\x03\x10\x03"},
		{"sds011", "\xaa\xc0\xd4\x04\x3a\x0a\xa1\x60?\xab", "\xaa\xc0\xd4\x04\x3a\x0a\xa1\x60\x1d\xab"},
		{"mbus", "h??h\x53\x01\x51?\x16", "h\x03?h\x53\x01\x51\xa5\x16"},
		{"rtu", "\x01\x03\x00\x00\x00\x01", "\x01\x03\x00\x00\x00\x01\x84\x0a"},
		{"decimal check", "AB", "AB131\r"},
		{"check in front", "AB@", "78AB@;"},
		{"prefix", "a\n", ""},
		{"dsmr", "x", "/x!\r\n"},
		{"sml", "x", "\x1b\x1b\x1b\x1b\x01\x01\x01\x01x\x1b\x1b\x1b\x1b\x1a\x00\x00\x00"},
	} {
		config := formats()[c.format]
		if c.want == "" {
			continue
		}
		require.Equal(t, c.want, string(config.Append(nil, []byte(c.payload))), c.format)
	}
	broken := Config{}
	require.Equal(t, "ab", string(broken.Append([]byte("a"), []byte("b"))))
	require.ErrorContains(t, broken.CanCarry([]byte("b")), "kind is unknown")
}

func TestCanCarry(t *testing.T) {
	for _, c := range []struct{ format, payload, want string }{
		{"lines", "AT", ""},
		{"lines", "", ""},
		{"lines", "AT\r\n", ""},
		{"lines", "AT\r\nATZ", "byte 2 of the payload would end the frame (0D 0A)"},
		{"nmea", "A\r\n$B", "would end the frame"},
		{"prefix", "AT\nATZ", ""},
		{"dle", "\x10\x03", ""},
		{"dsmr", "a/b", "begins with (2F)"},
		{"fixed", "abc", "the frame has 3 bytes, not 6"},
		{"sds011", "\xaa\xc1\xd4\x04\x3a\x0a\xa1\x60?\xab", "does not begin with AA C0"},
		{"sds011", "\xaa\xc0\xd4\x04\x3a\x0a\xa1\x60?\xac", "does not end with AB"},
		{"mbus", "h", "less than 2"},
		{"mbus", "h??h\x16", "a length of -1 does not fit its field"},
		{"pms5003", "BM" + strings.Repeat(".", 63), "the frame has 65 bytes, more than 64"},
		{"silence", "", "cannot be seen"},
		{"silence", "a", ""},
	} {
		config := formats()[c.format]
		err := config.CanCarry([]byte(c.payload))
		if c.want == "" {
			require.NoError(t, err, c.format)
		} else {
			require.ErrorContains(t, err, c.want, c.format)
		}
	}
	long := formats()["lines"]
	require.NoError(t, long.CanCarry(bytes.Repeat([]byte("x"), DefaultMax-2)))
	require.Error(t, long.CanCarry(bytes.Repeat([]byte("x"), DefaultMax-1)))
	// An end that begins within the payload: "aba" + "bab" has one at 1.
	odd := Config{Kind: Delimiter, Delimiter: []byte("bab")}
	require.ErrorContains(t, odd.CanCarry([]byte("aba")), "read as another one")
}
