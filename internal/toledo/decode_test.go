package toledo

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// sealed appends the checksum: the two's complement of the sum of the seven low
// bits (WILDCAT Technical Manual, table 6-8, note 6), computed in another way than the package does.
func sealed(frame string) string {
	sum := 0
	for _, c := range []byte(frame) {
		sum += int(c) % 128
	}
	return frame + string(rune((128-sum%128)%128))
}

func field(t *testing.T, got telegram.Telegram, name string) telegram.Field {
	t.Helper()
	f, ok := got.Field(name)
	require.True(t, ok, name)
	return f
}

func TestWeights(t *testing.T) {
	for name, test := range map[string]struct {
		frame  string
		weight telegram.Field
	}{
		// Status bytes by tables 6-9 to 6-11 of the WILDCAT Technical Manual.
		"two decimals in kg":       {"\x02,0   1234    50\r", telegram.Field{Text: "12.34", Unit: "kg"}},
		"leading zeros are kept":   {"\x02,0 001234    50\r", telegram.Field{Text: "0012.34", Unit: "kg"}},
		"zeros in all places":      {"\x02,0 000000000000\r", telegram.Field{Text: "0000.00", Unit: "kg"}},
		"pounds":                   {"\x02,    1234     0\r", telegram.Field{Text: "12.34", Unit: "lb"}},
		"negative":                 {"\x02,2   1234     0\r", telegram.Field{Text: "-12.34", Unit: "kg"}},
		"negative zero":            {"\x02,2      0     0\r", telegram.Field{Text: "0.00", Unit: "kg"}},
		"grams, one decimal":       {"\x02+0!  1234     0\r", telegram.Field{Text: "123.4", Unit: "g"}},
		"no decimals":              {"\x02*0 999999     0\r", telegram.Field{Text: "999999", Unit: "kg"}},
		"tens":                     {"\x02)0   1234     0\r", telegram.Field{Text: "12340", Unit: "kg"}},
		"hundreds":                 {"\x02(0 999999     0\r", telegram.Field{Text: "99999900", Unit: "kg"}},
		"five decimals":            {"\x02/0      1     0\r", telegram.Field{Text: "0.00001", Unit: "kg"}},
		"five decimals, all digit": {"\x02/0 123456     0\r", telegram.Field{Text: "1.23456", Unit: "kg"}},
		"custom unit":              {"\x02*0'  1234     0\r", telegram.Field{Text: "1234"}},
		"over range":               {"\x02,4   1234     0\r", telegram.Field{Quality: "bad:over-range", Unit: "kg"}},
		"over range and blank":     {"\x02,4             \r", telegram.Field{Quality: "bad:over-range", Unit: "kg"}},
		"under range":              {"\x02,6   1234     0\r", telegram.Field{Quality: "bad:under-range", Unit: "kg"}},
		"after power-up":           {"\x02,p   1234     0\r", telegram.Field{Quality: "bad:power-up", Unit: "kg"}},
		"expanded":                 {"\x02,00  1234     0\r", telegram.Field{Quality: "bad:expanded", Unit: "kg"}},
		"blank":                    {"\x02,0            0\r", telegram.Field{Quality: "bad:empty", Unit: "kg"}},
		"blank between digits":     {"\x02,0  12 34     0\r", telegram.Field{Quality: "bad:format", Unit: "kg"}},
		"short":                    {"\x02,0   1234\r", telegram.Field{Text: "12.34", Unit: "kg"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.weight.Name = "weight"
			for _, frame := range []string{test.frame, sealed(test.frame)} {
				got, err := Decode([]byte(frame))
				require.NoError(t, err)
				require.Equal(t, test.weight, field(t, got, "weight"))
			}
		})
	}
}

func TestTareAndFlags(t *testing.T) {
	got, err := Decode([]byte("\x02,9(  1184    50\r")) // net, in motion, printing
	require.NoError(t, err)
	require.Equal(t, telegram.Field{Name: "tare", Text: "0.50", Unit: "kg"}, field(t, got, "tare"))
	for name, want := range map[string]string{"net": "true", "motion": "true", "outOfRange": "false", "powerUp": "false", "printRequest": "true", "unit": "kg"} {
		require.Equal(t, want, field(t, got, name).Text, name)
	}
	got, err = Decode([]byte("\x02,0   1184      \r"))
	require.NoError(t, err)
	require.Equal(t, twin.Quality("bad:empty"), field(t, got, "tare").Quality)
	got, err = Decode([]byte("\x02,0   1184\r"))
	require.NoError(t, err)
	_, has := got.Field("tare")
	require.False(t, has, "short frames have none")
	require.Equal(t, "false", field(t, got, "net").Text)
}

func TestUnits(t *testing.T) {
	for c, want := range map[string]string{" ": "kg", "!": "g", `"`: "t", "#": "oz", "$": "ozt", "%": "dwt", "&": "ton", "'": "custom"} {
		got, err := Decode([]byte("\x02,0" + c + "  1234     0\r"))
		require.NoError(t, err)
		require.Equal(t, want, field(t, got, "unit").Text)
	}
}

func TestChecksum(t *testing.T) {
	// By hand: 02+2C+30+20 + 20+20+31+32+33+34 + 4*20+35+30 + 0D = 27A. Its seven low
	// bits are 7A, of which the two's complement is 06.
	frame := "\x02,0   1234    50\r\x06"
	require.Equal(t, frame, sealed("\x02,0   1234    50\r"))
	_, err := Decode([]byte(frame))
	require.NoError(t, err)
	for i := range len(frame) {
		for bit := range 7 {
			damaged := []byte(frame)
			damaged[i] ^= 1 << bit
			_, err := Decode(damaged)
			require.Error(t, err, "bit %d of byte %d", bit, i)
		}
	}
	wrong := []byte(frame)
	wrong[len(wrong)-1]++
	_, err = Decode(wrong)
	require.ErrorIs(t, err, ErrChecksum)
}

func TestDecodeRefuses(t *testing.T) {
	for name, frame := range map[string]string{
		"nothing":           "",
		"one less":          "\x02,0   1234    5\r",
		"two more":          sealed("\x02,0   1234    50\r") + "x",
		"one less, short":   "\x02,0   123\r",
		"two more, short":   sealed("\x02,0   1234\r") + "x",
		"no STX":            "x,0   1234    50\r",
		"no CR":             "\x02,0   1234    50\n",
		"a letter":          "\x02,0   12A4    50\r",
		"a sign":            "\x02,0  -1234    50\r",
		"control in status": "\x02\x1f0   1234    50\r",
		"parity left on":    "\x02\xac0   1234    50\r",
	} {
		_, err := Decode([]byte(frame))
		require.ErrorIs(t, err, ErrFormat, name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x02,0   1234    50\r"))
	f.Add([]byte(sealed("\x02/2!123456    50\r")))
	f.Add([]byte("\x02(4   1234\r"))
	number := regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := Decode(frame)
		if err != nil {
			require.Empty(t, got.Fields)
			return
		}
		seen := map[string]bool{}
		for _, x := range got.Fields {
			require.False(t, seen[x.Name])
			seen[x.Name] = true
			require.True(t, x.Quality == "" || x.Quality.Valid())
			if (x.Name == "weight" || x.Name == "tare") && x.Quality.IsGood() {
				require.Regexp(t, number, x.Text)
			}
		}
	})
}
