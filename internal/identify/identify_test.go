package identify

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/checksum"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/pkg/twin"
)

// heard makes chunks, a second apart.
func heard(parts ...string) []serial.Chunk {
	var list []serial.Chunk
	for i, p := range parts {
		list = append(list, serial.Chunk{At: time.Unix(1_700_000_000+int64(i), 0), Data: []byte(p)})
	}
	return list
}

func sentence(body string) string {
	a, _ := checksum.Find("nmea")
	return fmt.Sprintf("$%s*%02X\r\n", body, a.Sum([]byte(body)))
}

func sentences(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(sentence(fmt.Sprintf("GPRMC,1235%02d,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W", i)))
	}
	return b.String()
}

func p1() string {
	a, _ := checksum.Find("crc-16/arc")
	body := "/ISK5\\2M550T-1012\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(101209113020W)\r\n0-0:96.1.1(4B384547303034303436333935353037)\r\n" +
		"1-0:1.8.1(123456.789*kWh)\r\n1-0:1.7.0(01.193*kW)\r\n1-0:32.7.0(220.1*V)\r\n!"
	return fmt.Sprintf("%s%04X\r\n", body, a.Sum([]byte(body)))
}

// dust is the frames of a sensor for dust: 42 4D, a length, words, and their sum.
func dust(n int) string {
	var b []byte
	for i := range n {
		frame := []byte{0x42, 0x4d, 0, 28}
		for k := range 13 {
			frame = binary.BigEndian.AppendUint16(frame, uint16(7*k+i*i+3))
		}
		sum := 0
		for _, c := range frame {
			sum += int(c)
		}
		b = append(b, binary.BigEndian.AppendUint16(frame, uint16(sum))...)
	}
	return string(b)
}

// parity sets bit 7 such that all bytes have an even, or an odd, number of bits.
func parity(text string, odd int) string {
	b := []byte(text)
	for i := range b {
		if bits.OnesCount8(b[i])%2 != odd {
			b[i] |= 0x80
		}
	}
	return string(b)
}

func enclosedBy(check func(b []byte) string, contents ...string) string {
	var out strings.Builder
	for _, c := range contents {
		body := c + "\x03"
		out.WriteString("\x02" + body + check([]byte(body)))
	}
	return out.String()
}

func bcc(b []byte) string {
	a, _ := checksum.Find("bcc")
	return string([]byte{byte(a.Sum(b))})
}

func modbus(n int) []string {
	a, _ := checksum.Find("crc-16/modbus")
	var list []string
	for i := range n {
		frame := []byte{1, 3, 4, 0, byte(40 + i), 1, byte(7 * i)}
		list = append(list, string(binary.LittleEndian.AppendUint16(frame, uint16(a.Sum(frame)))))
	}
	return list
}

func noise(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func TestGuess(t *testing.T) {
	for name, tt := range map[string]struct {
		heard  []serial.Chunk
		what   string
		reason string
		sure   bool
	}{
		"NMEA":                    {heard(sentences(12)), "NMEA 0183", "12 of 12 lines have a right NMEA checksum", true},
		"NMEA from the middle on": {heard(sentences(4)[20:]), "NMEA 0183", "3 of 3 lines have a right NMEA checksum, the first of which only the end was heard not counted", true},
		"NMEA with damage":        {heard(strings.Replace(sentences(10), "123505,A", "123505,V", 1)), "NMEA 0183", "9 of 10 lines have a right NMEA checksum", true},
		"one P1 telegram":         {heard(p1()), "a P1 telegram (DSMR)", "1 of 1 telegram has a right CRC, where the version has one", true},
		"P1 from the middle on":   {heard(p1()[50:], p1(), p1()), "a P1 telegram (DSMR)", "2 of 2 telegrams have a right CRC, where the version has one", true},
		"JSON":                    {heard("{\"t\":20.5}\n{\"t\":20.6}\n{\"t\":20.7}\n"), "lines of JSON", "3 of 3 lines, ended by LF, are JSON", true},
		"JSON cut":                {heard("0.5}\n{\"t\":20.6}\n{\"t\":20.7}\n"), "lines of JSON", "2 of 2 lines, ended by LF, are JSON; the first, which is otherwise, may have begun before", true},
		"pairs":                   {heard("TEMP=20.5 HUM=40\r\nTEMP=20.6 HUM=41\r\n"), "lines of NAME=VALUE", "2 of 2 lines, ended by CR LF, are such pairs", true},
		"pairs with CR":           {heard("T: 20.5 C, H: 40 %\rT: 20.6 C, H: 41 %\rT: 20.6 C, H: 41 %\r"), "lines of NAME=VALUE", "3 of 3 lines, ended by CR, are such pairs", true},
		"commas":                  {heard("1,2.5,on\n2,2.6,on\n3,2.7,off\n"), "lines of 3 columns parted by a comma", "3 of 3 lines, ended by LF, have 3 columns, 67 % of them numbers", true},
		"a scale that sends":      {heard("ST,GS,+  12.34kg\r\nST,GS,+  12.35kg\r\nUS,GS,-   1.00kg\r\n"), "lines of 3 columns parted by a comma", "3 of 3 lines, ended by CR LF, have 3 columns, 33 % of them numbers", true},
		"text":                    {heard("hello there\nwho is there?\nnobody, and nothing at all\n"), "lines of text", "3 of 3 lines, ended by LF, of which 100 % of the bytes are printable", true},
		"STX with a BCC": {
			heard(enclosedBy(bcc, "12.5", "12.6", "12.7", "13.1")), "frames from STX to ETX with the check xor8",
			"4 of 4 frames have an STX, an ETX and a right xor8 (of the content and ETX)", true,
		},
		"STX without a check": {
			heard(enclosedBy(func([]byte) string { return "" }, "12.5", "12.6", "12.7")), "what stands between STX and ETX",
			"3 of 3 frames have an STX and an ETX", false,
		},
		"a fixed length":             {heard(dust(6)), "fixed 32 bytes, starts with 42 4D, sum16 fits", "6 of 6 frames have a right sum16 of the bytes from 0 on", true},
		"a fixed length, cut":        {heard(dust(6)[5:]), "fixed 32 bytes, starts with 42 4D, sum16 fits", "5 of 5 frames have a right sum16 of the bytes from 0 on", true},
		"silences":                   {heard("\x01\x22\x33", "\x05\x22\x31\x32", "\x17\x28"), "bursts between silences", "3 of 3 frames have at least 1s of silence behind them", false},
		"Modbus":                     {heard(modbus(5)...), "bursts between silences, crc-16/modbus fits: it may be Modbus RTU (protocolName: modbus)", "5 of 5 frames have a right crc-16/modbus at their end", true},
		"NMEA, 7 bits, even":         {heard(parity(sentences(3), 0)), "NMEA 0183", "3 of 3 lines have a right NMEA checksum; read as 7 data bits with even parity, which each byte has", true},
		"NMEA, 7 bits, odd":          {heard(parity(sentences(3), 1)), "NMEA 0183", "3 of 3 lines have a right NMEA checksum; read as 7 data bits with odd parity, which each byte has", true},
		"in lumps":                   {heard(strings.SplitAfter(sentences(6), "5")...), "NMEA 0183", "6 of 6 lines have a right NMEA checksum", true},
		"a number and nothing else":  {heard("   12.34 kg\r\n   12.35 kg\r\n   12.36 kg\r\n"), "lines of one number", "3 of 3 lines, ended by CR LF, are numbers, alone or with a unit", true},
		"NAME=VALUE with text value": {heard("STATE=run\nSTATE=stop\n"), "lines of NAME=VALUE", "2 of 2 lines, ended by LF, are such pairs", true},
	} {
		t.Run(name, func(t *testing.T) {
			list := Guess(tt.heard)
			require.NotEmpty(t, list)
			require.Equal(t, tt.what, list[0].What)
			require.Equal(t, tt.reason, list[0].Reason)
			require.Equal(t, tt.sure, list[0].Score >= Convincing, "score %d", list[0].Score)
		})
	}
}

func TestNothingIsGuessedFromNoise(t *testing.T) {
	require.Empty(t, Guess(nil))
	for _, n := range []int{1, 100, 5000, MaxBytes + 1} {
		for _, c := range Guess(heard(noise(n))) {
			require.Less(t, c.Score, Convincing, "%d bytes: %s: %s", n, c.What, c.Reason)
		}
	}
}

func fieldsOf(t *testing.T, chunks []serial.Chunk) map[string]Field {
	t.Helper()
	list := Guess(chunks)
	require.NotEmpty(t, list)
	m := map[string]Field{}
	for _, f := range list[0].Fields {
		m[f.Name] = f
	}
	return m
}

func TestFields(t *testing.T) {
	f := fieldsOf(t, heard(sentences(3)))
	require.Equal(t, "22.4", f["RMC.speed"].Text)
	require.Equal(t, twin.TypeDouble, f["RMC.speed"].Type)
	require.Equal(t, map[string]any{"field": "RMC.speed"}, f["RMC.speed"].Visitor)
	f = fieldsOf(t, heard(p1()))
	require.Equal(t, "kWh", f["1-0:1.8.1"].Unit)
	f = fieldsOf(t, heard("{\"a\":{\"b/c\":[1,true]},\"id\":\"007\",\"n\":null}\n{\"a\":{\"b/c\":[1.5,true]}}\n"))
	require.Equal(t, Field{Name: "a.b/c.0", Text: "1.5", Type: twin.TypeDouble, Visitor: map[string]any{"pointer": "/a/b~1c/0"}}, f["a.b/c.0"])
	require.Equal(t, twin.TypeBoolean, f["a.b/c.1"].Type)
	require.Equal(t, twin.TypeString, f["id"].Type)
	f = fieldsOf(t, heard("T: 20.5 °C, N=5\nT: 20.6 °C, N=6\n"))
	require.Equal(t, "°C", f["T"].Unit)
	require.Equal(t, map[string]any{"regex": `(?:^|[\s,;])T\s*[=:]\s*([-+]?\s*[0-9]*\.?[0-9]+)`}, f["T"].Visitor)
	require.Equal(t, map[string]any{"name": "N"}, f["N"].Visitor)
	f = fieldsOf(t, heard(dust(4)))
	require.Equal(t, Field{Name: "at4", Text: "12", Type: twin.TypeInt, Visitor: map[string]any{"at": 4, "type": "uint16"}}, f["at4"])
	require.NotContains(t, f, "at30", "the check is no value")
	f = fieldsOf(t, heard(enclosedBy(bcc, "12.5", "12.6", "12.7", "13.1")))
	require.Equal(t, Field{Name: "value", Text: "13.1", Type: twin.TypeDouble, Visitor: map[string]any{"regex": numberPattern}}, f["value"])
}

// What is guessed is what a Device with these keys reads.
func TestVisitorsReadWhatWasSeen(t *testing.T) {
	for name, chunks := range map[string][]serial.Chunk{
		"NMEA": heard(sentences(3)), "P1": heard(p1()), "JSON": heard("{\"a\":{\"b/c\":[1.5,true]},\"id\":\"007\"}\n"),
		"pairs":   heard("T: 20.5 °C, N=5, S: run\nT: 20.6 °C, N=6, S: run\n"),
		"columns": heard("ST|GS|+  12.34kg|5\r\nST|GS|-  12.35kg|6\r\n"), "tabs": heard("a\t1\t2.5kg\na\t2\t2.6kg\n"), "spaces": heard("12 13.5kg 4 on\n12 13.5kg 5 on\n"),
		"dust": heard(dust(4)), "BCC": heard(enclosedBy(bcc, "12.5", "12.6", "12.7", "13.1")),
	} {
		t.Run(name, func(t *testing.T) {
			c := Guess(chunks)[0]
			d := twin.Device{ID: twin.DeviceID{Namespace: "n", Name: "d"}, Config: c.Config}
			d.Config["url"] = "tcp://h:1"
			for _, f := range c.Fields {
				if f.Type != "" {
					d.Properties = append(d.Properties, twin.Property{Name: f.Name, Type: f.Type, Visitor: f.Visitor})
				}
			}
			decl, problems := serial.Parse(&d)
			require.Empty(t, problems)
			require.NotEmpty(t, decl.Fields)
			read := map[string]string{}
			r, err := serial.NewReader(c.Config, false)
			require.NoError(t, err)
			for _, chunk := range chunks {
				r.Push(chunk)
				for h, ok := r.Next(); ok; h, ok = r.Next() {
					require.NoError(t, h.Err)
					for i := range decl.Fields {
						f := &decl.Fields[i]
						if v, q, has := f.Read(h.Message); has {
							require.False(t, q.IsBad(), "%s is %s", f.Property, q)
							read[f.Property] = v.Text()
						}
					}
				}
			}
			for _, p := range d.Properties {
				require.Contains(t, read, p.Name)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct{ question, answer, what, field, value string }{
		"a weight":              {"sics", "S S     100.00 g\r\n", "a scale that speaks MT-SICS", "weight", "100.00"},
		"a weight that changes": {"sics", "S D      -0.50 kg\r\n", "a scale that speaks MT-SICS", "weight", "-0.50"},
		"no weight":             {"sics", "S I\r\n", "a scale that speaks MT-SICS", "weight", ""},
		"not known":             {"sics", "ES\r\n", "a scale that speaks MT-SICS", "weight", ""},
		"with an echo":          {"sics", "S\r\nS S      1.00 g\r\n", "a scale that speaks MT-SICS", "weight", "1.00"},
		"a number":              {"sics-number", "I4 A \"0123456789\"\r\n", "an instrument that speaks MT-SICS", "serialNumber", "0123456789"},
		"an identity":           {"scpi", "ACME,DMM-1,4711,1.0\n", "an instrument that speaks SCPI", "model", "DMM-1"},
		"anything":              {"enter", "T=20.5 H=40\r\n", "lines of NAME=VALUE", "T", "20.5"},
		"only an echo":          {"sics", "S\r\n", "", "", ""},
		"an echo of *IDN?":      {"scpi", "*IDN?\n", "", "", ""},
		"something else":        {"scpi", "ERR 5\n", "", "", ""},
		"no meter":              {"iec62056", "/?!\r\n", "", "", ""},
		"noise":                 {"enter", noise(30), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, q := range Questions() {
				if q.Name != tt.question {
					continue
				}
				c, ok := q.Answered(heard(tt.answer))
				require.Equal(t, tt.what != "", ok)
				require.Equal(t, tt.what, c.What)
				if ok {
					i := slices.IndexFunc(c.Fields, func(f Field) bool { return f.Name == tt.field })
					require.GreaterOrEqual(t, i, 0, "%v", c.Fields)
					require.Equal(t, tt.value, c.Fields[i].Text)
				}
				require.Equal(t, strings.HasPrefix(tt.answer, string(q.Send)) && ok, c.Config["echo"] == true)
			}
		})
	}
	for _, q := range Questions() {
		if c, ok := q.Answered(heard("/LGZ5ZMD3104107.B32\r\n")); q.Name == "iec62056" {
			require.True(t, ok)
			require.Equal(t, "iec62056", c.Profile())
		}
	}
}

func TestDescribe(t *testing.T) {
	for name, tt := range map[string]struct {
		heard []serial.Chunk
		want  string
	}{
		"nothing": {nil, "nothing"},
		"text":    {heard("hello\r\n"), "7 bytes, 100 % printable"},
		"bytes":   {heard("\x80\x01ab"), "4 bytes, 50 % printable, 25 % with bit 7 set"},
		"zeros":   {heard("\x00\x00\x00a"), "4 bytes, 25 % printable, mostly 00: the rate is too high, or A and B are swapped"},
		"even":    {heard(parity("the quick brown fox jumps", 0)), "25 bytes that look like 7 data bits with even parity"},
		"odd":     {heard(parity("the quick brown fox jumps", 1)), "25 bytes that look like 7 data bits with odd parity"},
		"too few": {heard(parity("the quick brown fox jum", 0)), "23 bytes, 52 % printable, 48 % with bit 7 set"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, Describe(tt.heard).String()) })
	}
	require.Equal(t, 3, Describe(heard("a", "b", "c")).Bursts)
}

func TestTypes(t *testing.T) {
	for text, want := range map[string]twin.Type{
		"5": twin.TypeInt, "-5": twin.TypeInt, "+5": twin.TypeInt, "0": twin.TypeInt, "5.": twin.TypeDouble, ".5": twin.TypeDouble, "1.5E+03": twin.TypeDouble,
		"007": twin.TypeString, "-   3.1": twin.TypeDouble, "true": twin.TypeBoolean, "on": twin.TypeString, "": twin.TypeString, "-": twin.TypeString, "1.2.3": twin.TypeString,
		"1e": twin.TypeString, "12:30": twin.TypeString, "1234567890123456789": twin.TypeString, "123456789012345678": twin.TypeInt,
	} {
		require.Equal(t, want, typeOf(text, ""), text)
	}
	require.Equal(t, twin.TypeDouble, typeOf("005", "V"))
	require.Equal(t, twin.TypeDouble, wider(twin.TypeInt, twin.TypeDouble))
	require.Equal(t, twin.TypeString, wider(twin.TypeInt, twin.TypeString))
}

func FuzzGuess(f *testing.F) {
	for _, s := range []string{"", sentences(3), p1(), dust(4), "{\"a\":1}\n", "a=1\n", "1,2\n3,4\n", enclosedBy(bcc, "1", "2", "3"), parity(sentences(2), 0), noise(64)} {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = min(max(cut, 0), len(b))
		chunks := []serial.Chunk{{At: time.Unix(0, 0), Data: b[:cut]}, {At: time.Unix(1, 0), Data: b[cut:]}}
		last := 100
		for _, c := range Guess(chunks) {
			require.GreaterOrEqual(t, c.Score, 0)
			require.LessOrEqual(t, c.Score, last)
			require.Positive(t, c.Frames)
			require.LessOrEqual(t, c.Skipped, len(b))
			require.LessOrEqual(t, len(c.Fields), maxFields)
			last = c.Score
		}
		for _, q := range Questions() {
			q.Answered(chunks)
		}
	})
}
