package rfc2217

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// feed decodes in in parts of size bytes, and returns the data and the commands as text.
func feed(in []byte, size int) (data []byte, said []string, err error) {
	var d decoder
	for part := range slices.Chunk(slices.Clone(in), size) {
		n, err := d.decode(part, func(c command) error {
			said = append(said, fmt.Sprintf("%v %v %v", c.verb, c.option, c.body))
			return nil
		})
		data = append(data, part[:n]...)
		if err != nil {
			return data, said, err
		}
	}
	return data, said, nil
}

func TestDecoder(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		data string
		said []string
		err  error
	}{
		"nothing":        {"", "", nil, nil},
		"data":           {"a\r\n\x00b", "a\r\n\x00b", nil, nil},
		"doubled":        {"a\xff\xffb\xff\xff\xff\xff", "a\xffb\xff\xff", nil, nil},
		"options":        {"a\xff\xfd\x2cb\xff\xfb\x00\xff\xfe\xff", "ab", []string{"253 44 []", "251 0 []", "254 255 []"}, nil},
		"no operation":   {"a\xff\xf1b", "ab", []string{"241 0 []"}, nil},
		"end of nothing": {"\xff\xf0a", "a", []string{"240 0 []"}, nil},
		"subnegotiation": {"a\xff\xfa\x2c\x65\x00\x00\x01\xff\xff\xff\xf0b", "ab", []string{"250 44 [101 0 0 1 255]"}, nil},
		"option alone":   {"\xff\xfa\x2c\xff\xf0", "", []string{"250 44 []"}, nil},
		"without option": {"a\xff\xfa\xff\xf0b", "a", nil, errMalformed},
		"command within": {"a\xff\xfa\x2c\xff\xfb\x01\xff\xf0", "a", nil, errMalformed},
		"not ended":      {"a\xff\xfa\x2c\x65", "a", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for size := 1; size <= max(1, len(test.in)); size++ {
				data, said, err := feed([]byte(test.in), size)
				require.ErrorIs(t, err, test.err)
				require.Equal(t, test.data, string(data))
				require.Equal(t, test.said, said)
			}
		})
	}
}

func TestASubnegotiationIsBounded(t *testing.T) {
	body := bytes.Repeat([]byte{cmdIAC}, maxSub-2)
	_, said, err := feed(appendSub(nil, 0, body), 7)
	require.NoError(t, err)
	require.Len(t, said, 1)
	_, said, err = feed(appendSub(nil, 0, append(body, 1)), 7)
	require.ErrorIs(t, err, errLong)
	require.Empty(t, said)
}

func TestPlainCountsWhatIsOut(t *testing.T) {
	p := []byte{1, cmdIAC, cmdIAC, 2}
	out := appendData(nil, p)
	require.Len(t, out, 6)
	for sent, want := range []int{0, 1, 1, 2, 2, 3, 4} {
		require.Equal(t, want, plain(p, sent), "%d sent", sent)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a\xff\xfd\x2cb\xff\xfa\x2c\x65\x00\x00\x01\xff\xff\xff\xf0c\xff\xff"), 3)
	f.Add([]byte("\xff\xfa\xff\xf0\xff"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = max(1, min(size, len(in)))
		data, said, err := feed(in, max(1, len(in)))
		dataParts, saidParts, errParts := feed(in, size)
		require.Equal(t, err, errParts)
		require.True(t, bytes.Equal(data, dataParts))
		require.Equal(t, said, saidParts)
		require.LessOrEqual(t, len(data), len(in))
		// What is encoded comes back.
		back, commands, err := feed(appendData(nil, in), size)
		require.NoError(t, err)
		require.Empty(t, commands)
		require.True(t, bytes.Equal(in, back))
		_, commands, err = feed(appendSub(nil, 1, in[:min(len(in), maxSub-2)]), size)
		require.NoError(t, err)
		require.Len(t, commands, 1)
	})
}
