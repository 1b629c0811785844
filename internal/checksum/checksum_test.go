package checksum

import (
	"hash/crc32"
	"hash/crc64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const digits = "123456789"

func find(t testing.TB, name string) Algorithm {
	t.Helper()
	a, ok := Find(name)
	require.True(t, ok, name)
	return a
}

// bitwise is the Rocksoft model as Williams's "A Painless Guide to CRC Error Detection
// Algorithms" section 15 defines it, one bit at a time.
func bitwise(m model, data []byte) uint64 {
	v := m.init
	for _, b := range data {
		for i := range 8 {
			bit := b >> (7 - i) & 1
			if m.refIn {
				bit = b >> i & 1
			}
			top := v >> (m.width - 1) & 1
			v = v << 1 & (1<<m.width - 1)
			if m.width == 64 {
				v &= ^uint64(0)
			}
			if top != uint64(bit) {
				v ^= m.poly
			}
		}
	}
	if m.refOut {
		var r uint64
		for i := range m.width {
			r |= v >> i & 1 << (m.width - 1 - i)
		}
		v = r
	}
	return v ^ m.xorOut
}

func TestCatalogueChecks(t *testing.T) {
	require.Len(t, catalogue(), len(oracle()))
	for i, want := range oracle() {
		t.Run(want.name, func(t *testing.T) {
			require.Equal(t, want.name, catalogue()[i].name)
			a := find(t, want.name)
			require.Equal(t, want.name, a.Name())
			require.Equal(t, catalogue()[i].width, a.Bits())
			require.Equal(t, want.check, a.Sum([]byte(digits)))
		})
	}
}

// codeword is data with its CRC behind it, in the order in which the bits are sent.
func codeword(m model, data []byte, crc uint64) []byte {
	word := append([]byte(nil), data...)
	for i := range m.width / 8 {
		if m.refOut {
			word = append(word, byte(crc>>(8*i)))
		} else {
			word = append(word, byte(crc>>(m.width-8-8*i)))
		}
	}
	return word
}

// TestResidue checks what receivers rely on: the register holds one and the same value
// behind every good codeword. It can be asked where the CRC is whole bytes.
func TestResidue(t *testing.T) {
	for i, want := range oracle() {
		m := catalogue()[i]
		if m.width%8 != 0 || m.refIn != m.refOut {
			continue
		}
		t.Run(want.name, func(t *testing.T) {
			a := find(t, want.name)
			rapid.Check(t, func(t *rapid.T) {
				data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
				word := codeword(m, data, a.Sum(data))
				require.Equal(t, want.residue, a.Sum(word)^m.xorOut)
				bit := rapid.IntRange(0, len(word)*8-1).Draw(t, "bit")
				word[bit/8] ^= 1 << (bit % 8)
				require.NotEqual(t, want.residue, a.Sum(word)^m.xorOut)
			})
		})
	}
}

func TestModel(t *testing.T) {
	for _, m := range catalogue() {
		t.Run(m.name, func(t *testing.T) {
			a := find(t, m.name)
			rapid.Check(t, func(t *rapid.T) {
				data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
				require.Equal(t, bitwise(m, data), a.Sum(data))
			})
		})
	}
}

func TestStandardLibrary(t *testing.T) {
	hdlc, iscsi, xz, iso := find(t, "crc-32"), find(t, "crc-32c"), find(t, "crc-64/xz"), find(t, "crc-64/go-iso")
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		require.EqualValues(t, crc32.ChecksumIEEE(data), hdlc.Sum(data))
		require.EqualValues(t, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)), iscsi.Sum(data))
		require.Equal(t, crc64.Checksum(data, crc64.MakeTable(crc64.ECMA)), xz.Sum(data))
		require.Equal(t, crc64.Checksum(data, crc64.MakeTable(crc64.ISO)), iso.Sum(data))
	})
}

func TestSimple(t *testing.T) {
	for _, c := range []struct {
		name, of string
		want     uint64
	}{
		{"sum8", digits, 0xdd},       // 0x1dd
		{"sum8-twos", digits, 0x23},  // -0x1dd
		{"lrc", "\x02\x07", 0xf7},    // Modbus over Serial Line V1.02, the form of section 6.2.1
		{"sum16", digits, 0x01dd},    //
		{"sum16", "BM\x00\x1c", 171}, // the head of a frame of a PMS5003
		{"xor8", digits, 0x31},       //
		{"nmea", "GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,", 0x47},
		{"bcc", "", 0},
		{"sum8-twos", "", 0},
		{"sum16", strings.Repeat("\xff", 258), 0x00fe}, // 65790 modulo 65536
	} {
		require.Equal(t, c.want, find(t, c.name).Sum([]byte(c.of)), "%s of %q", c.name, c.of)
	}
	twos, sum, exor := find(t, "sum8-twos"), find(t, "sum8"), find(t, "xor8")
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		require.Zero(t, byte(twos.Sum(data)+sum.Sum(data)))
		var n byte
		for _, b := range data {
			n ^= b
		}
		require.EqualValues(t, n, exor.Sum(data))
	})
}

func TestNames(t *testing.T) {
	seen := map[string]string{}
	add := func(name, of string) {
		require.Equal(t, strings.ToLower(name), name)
		require.NotContains(t, seen, name)
		seen[name] = of
	}
	for _, a := range simple() {
		add(a.name, a.name)
		for _, alias := range a.aliases {
			add(alias, a.name)
		}
	}
	for _, m := range catalogue() {
		add(m.name, m.name)
		for _, alias := range m.aliases {
			add(alias, m.name)
		}
	}
	for name, of := range seen {
		require.Equal(t, of, find(t, strings.ToUpper(name)).Name())
	}
	for _, name := range Names() {
		require.Equal(t, name, seen[name])
	}
	for alias, name := range map[string]string{
		"CCITT-FALSE": "", "CRC-16/CCITT-FALSE": "crc-16/ibm-3740", "crc-ccitt": "crc-16/kermit", "x-25": "crc-16/ibm-sdlc",
		"modbus": "crc-16/modbus", "arc": "crc-16/arc", "crc-8/itu": "crc-8/i-432-1", "": "", "sum9": "",
	} {
		a, ok := Find(alias)
		require.Equal(t, name != "", ok, alias)
		require.Equal(t, name, a.Name())
	}
	require.Zero(t, Algorithm{}.Sum([]byte(digits)))
	require.Zero(t, Algorithm{}.Bits())
}

func TestNothingIsAllocated(t *testing.T) {
	a, data := find(t, "crc-16/modbus"), make([]byte, 256)
	require.Zero(t, testing.AllocsPerRun(100, func() { a.Sum(data) }))
}

// FuzzSum compares every algorithm with the model, one bit at a time.
func FuzzSum(f *testing.F) {
	f.Add(uint8(0), []byte(digits))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		m := catalogue()[int(which)%len(catalogue())]
		require.Equal(t, bitwise(m, data), find(t, m.name).Sum(data))
	})
}

func BenchmarkSum(b *testing.B) {
	for _, name := range []string{"sum8", "xor8", "crc-8/smbus", "crc-16/modbus", "crc-32/iso-hdlc"} {
		b.Run(name, func(b *testing.B) {
			a, data := find(b, name), make([]byte, 256)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				a.Sum(data)
			}
		})
	}
}
