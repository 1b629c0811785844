package sml_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/sml"
	"github.com/twinline/twinline/internal/telegram"
)

// TestDamage flips every bit of a telegram, and cuts it everywhere.
func TestDamage(t *testing.T) {
	raw := push(entry(energy, u8(wh), i8(-1), number(6, 5, 147981129)), entry(power, u8(watt), none, number(5, 2, 15)))
	_, err := sml.Decode(raw)
	require.NoError(t, err)
	for i := range raw {
		_, err := sml.Decode(raw[:i])
		require.ErrorIs(t, err, sml.ErrFormat, "cut at %d", i)
		for bit := range 8 {
			raw[i] ^= 1 << bit
			_, err := sml.Decode(raw)
			require.True(t, errors.Is(err, sml.ErrChecksum) || errors.Is(err, sml.ErrFormat), "bit %d of byte %d: %v", bit, i, err)
			raw[i] ^= 1 << bit
		}
	}
}

func TestChecksums(t *testing.T) {
	body := response(server, none, entry(energy, none, none, u8(1)))
	right := message(x25, 0x0701, body)
	wrong := append([]byte(nil), right...)
	wrong[len(wrong)-2] ^= 1
	// A checksum whose high byte is 0 may be sent as one byte.
	short := func() []byte {
		for i := uint64(0); ; i++ {
			b := join([]byte{0x76}, octetString("\x01"), u8(0), u8(0), listOf(u16(0x0701), response(server, none, entry(energy, none, none, u32(i)))))
			if n := sum(x25, b); n < 0x100 {
				return join(b, u8(uint64(n)), []byte{0})
			}
		}
	}()
	for name, test := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"X-25":                       {frame(x25, right), true},
		"Kermit":                     {frame(kermit, message(kermit, 0x0701, body)), true},
		"short":                      {frame(x25, short), true},
		"file X-25, message Kermit":  {frame(x25, message(kermit, 0x0701, body)), false},
		"file Kermit, message X-25":  {frame(kermit, right), false},
		"file right, message wrong":  {frame(x25, wrong), false},
		"another file's than Kermit": {frame("crc-16/xmodem", right), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sml.Decode(test.raw)
			if test.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, sml.ErrChecksum)
		})
	}
}

func TestEscapes(t *testing.T) {
	for n := range 13 {
		text := "\x02" + strings.Repeat("\x1b", n) + "\x01\x01\x01\x01"
		raw := push(entry(energy, none, none, octetString(text)))
		require.Equal(t, n/4*4, strings.Count(string(raw), "\x1b")-n-8)
		got, err := sml.Decode(raw)
		require.NoError(t, err)
		require.Equal(t, "02"+strings.Repeat("1B", n)+"01010101", got.Fields[0].Text)
	}
}

// reframe puts bytes into a file as they are, with the pad count and checksum given to them.
func reframe(payload string, pad byte) []byte {
	out := join(escape, []byte{1, 1, 1, 1}, []byte(payload), escape, []byte{0x1a, pad})
	return binary.BigEndian.AppendUint16(out, sum(x25, out))
}

func TestPadding(t *testing.T) {
	for pad := range 5 {
		_, err := sml.Decode(reframe(string(message(x25, 0x0701, response(server, none)))+strings.Repeat("\x00", pad), byte(pad)))
		require.NoError(t, err, "%d bytes", pad)
	}
}

func TestFormats(t *testing.T) {
	good := push(entry(energy, none, none, u8(1)))
	body := func(b []byte) []byte { return frame(x25, message(x25, 0x0701, b)) }
	listed := func(e []byte) []byte { return body(response(server, none, e)) }
	for name, raw := range map[string][]byte{
		"nothing":                    nil,
		"something before":           join([]byte{0}, good),
		"something behind":           join(good, []byte{0}),
		"version 2":                  join(escape, []byte{2, 2, 2, 2}, good[8:]),
		"another escape":             join(good[:8], escape, []byte{2, 0, 0, 0}, good[8:]),
		"begun anew":                 join(good[:12], good),
		"five bytes of padding":      reframe(string(message(x25, 0x0701, response(server, none)))+"\x00\x00\x00\x00\x00", 5),
		"more padding than bytes":    reframe("\x00", 2),
		"no message":                 reframe("abcd", 0),
		"padding left":               reframe(string(message(x25, 0x0701, response(server, none)))+"\x00", 0),
		"message of 5":               reframe("\x75\x01\x01\x01\x01\x01", 0),
		"no end of message":          reframe(strings.TrimSuffix(string(message(x25, 0x0701, response(server, none))), "\x00"), 0),
		"ends in a list":             reframe("\x76\x01", 0),
		"body no choice":             frame(x25, message(x25, 0x0701, u8(1))),
		"list of 6":                  body(listOf(none, none, none, none, none, none)),
		"server a number":            body(listOf(none, u8(1), none, none, listOf(), none, none)),
		"values no list":             body(listOf(none, octetString(server), none, none, none, none, none)),
		"value of 6":                 listed(listOf(none, none, none, none, none, none)),
		"name of 5 bytes":            listed(entry("\x01\x00\x01\x08\x00", none, none, u8(1))),
		"name a number":              listed(listOf(u8(1), none, none, none, none, none, none)),
		"status signed":              listed(listOf(octetString(energy), i8(1), none, none, none, u8(1), none)),
		"unit signed":                listed(entry(energy, i8(1), none, u8(1))),
		"scaler unsigned":            listed(entry(energy, none, u8(1), u8(1))),
		"time of 3":                  listed(listOf(octetString(energy), none, listOf(none, none, none), none, none, u8(1), none)),
		"integer of 0 bytes":         listed(entry(energy, none, none, []byte{0x51})),
		"integer of 9 bytes":         listed(entry(energy, none, none, append([]byte{0x5a}, make([]byte, 9)...))),
		"boolean of 2 bytes":         listed(entry(energy, none, none, []byte{0x43, 0, 0})),
		"a type that does not exist": listed(entry(energy, none, none, []byte{0x12, 0})),
		"length less than itself":    listed(entry(energy, none, none, []byte{0x80, 0x01, 0x01})),
		"length of 5 bytes":          listed(entry(energy, none, none, []byte{0x80, 0x80, 0x80, 0x80, 0x06, 'x'})),
		"type in a second byte":      listed(entry(energy, none, none, []byte{0x80, 0x53, 'x'})),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sml.Decode(raw)
			require.ErrorIs(t, err, sml.ErrFormat)
		})
	}
}

func TestBounds(t *testing.T) {
	nested := func(deep int) []byte {
		b := none
		for range deep - 6 { // the message, its body, the response, its values and the value are five; the list of these is the sixth
			b = listOf(b)
		}
		return push(entry(energy, none, none, listOf(b)))
	}
	values := func(n int) [][]byte {
		return repeat(entry(energy, none, none, u8(1)), n)
	}
	fields := func(n int) []byte {
		withStatus := listOf(octetString(energy), u8(1), none, none, none, u8(1), none)
		return frame(x25, message(x25, 0x0701, response(server, none, append(values(n-2), withStatus)...)))
	}
	sized := func(size int) []byte {
		list := message(x25, 0x0701, response(server, none))
		for fill := size - 200; ; fill++ {
			raw := frame(x25, list, message(x25, 0xff01, octetString(strings.Repeat("x", fill))))
			if len(raw) == size {
				return raw
			}
		}
	}
	for name, test := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"depth":               {nested(sml.MaxDepth), true},
		"depth, one more":     {nested(sml.MaxDepth + 1), false},
		"fields":              {fields(telegram.MaxFields), true},
		"fields, one more":    {fields(telegram.MaxFields + 1), false},
		"list":                {frame(x25, message(x25, 0x0701, response(server, none, values(sml.MaxList)...))), true},
		"list, one more":      {frame(x25, message(x25, 0x0701, response(server, none)), message(x25, 0xff01, listOf(repeat(none, sml.MaxList+1)...))), false},
		"file":                {sized(sml.MaxFile), true},
		"file, four more":     {sized(sml.MaxFile + 4), false},
		"list beyond its end": {push([]byte{0xf3, 0x8f, 0x0f}), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sml.Decode(test.raw)
			if test.ok {
				require.NoError(t, err)
				require.LessOrEqual(t, len(got.Fields), telegram.MaxFields)
				return
			}
			require.ErrorIs(t, err, sml.ErrFormat)
		})
	}
}

func repeat(b []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

func FuzzDecode(f *testing.F) {
	seed := push(
		entry(energy, u8(wh), i8(-1), number(6, 5, 147981129)),
		entry("\x01\x00\x60\x01\x00\xff", none, none, octetString(server)),
		listOf(octetString(power), u8(1), listOf(u8(3), listOf(u32(9), number(5, 2, 60), none)), u8(watt), none, number(5, 2, 15), none))
	f.Add(seed[8:len(seed)-8], true)
	f.Add(seed, false)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap { // past the checksum of the file, whatever is inside
			b = reframe(string(b), 0)
		}
		got, err := sml.Decode(b)
		if err != nil {
			require.True(t, errors.Is(err, sml.ErrChecksum) || errors.Is(err, sml.ErrFormat))
			require.Empty(t, got)
			return
		}
		require.LessOrEqual(t, len(got.Fields), telegram.MaxFields)
		names := map[string]bool{}
		for _, field := range got.Fields {
			require.False(t, names[field.Name], field.Name)
			names[field.Name] = true
			require.True(t, field.Quality.Valid())
			require.Equal(t, field.Quality.IsBad(), field.Text == "")
		}
	})
}
