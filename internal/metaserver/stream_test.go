package metaserver

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadEvents(t *testing.T) {
	for name, c := range map[string]struct {
		stream string
		events int
		err    string
	}{
		"none":        {"", 0, "EOF"},
		"two":         {`{"type":"ADDED","object":{}}` + "\n" + `{"type":"DELETED","object":{}}`, 2, "EOF"},
		"no newlines": {`{"type":"ADDED","object":{}}{"type":"MODIFIED","object":{}}`, 2, "EOF"},
		"half":        {`{"type":"ADDED","object":{}}` + "\n" + `{"type":"ADD`, 1, "unexpected EOF"},
		"bookmark":    {`{"type":"BOOKMARK","object":{}}`, 0, "EOF"},
		"error":       {`{"type":"ERROR","object":{"message":"gone","reason":"Expired"}}{"type":"ADDED"}`, 0, "gone Expired"},
		"not JSON":    {`hello`, 0, "invalid"},
		"at bound":    {`{"type":"ADDED","object":{"x":"` + strings.Repeat("x", maxEvent-40) + `"}}`, 1, "EOF"},
		"over bound":  {`{"type":"ADDED","object":{"x":"` + strings.Repeat("x", maxEvent) + `"}}`, 0, "more than the bound"},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			err := readEvents(strings.NewReader(c.stream), func(event) error { n++; return nil })
			require.ErrorContains(t, err, c.err)
			require.Equal(t, c.events, n)
		})
	}
	stop := errors.New("stop")
	require.ErrorIs(t, readEvents(strings.NewReader(`{"type":"ADDED","object":{}}`), func(event) error { return stop }), stop)
}

func TestListIsBounded(t *testing.T) {
	_, err := readList(io.MultiReader(strings.NewReader(`{"items":["`), io.LimitReader(endless{}, maxList), strings.NewReader(`"]}`)))
	require.ErrorIs(t, err, errTooLarge)
	items, err := readList(strings.NewReader(`{"items":null}`))
	require.NoError(t, err)
	require.Empty(t, items)
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// Whatever a watch says: it ends with an error, and no object disturbs another.
func FuzzEvents(f *testing.F) {
	f.Add(`{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"b","resourceVersion":"3"},"spec":{}}}`)
	f.Add(`{"type":"DELETED","object":{"metadata":{"name":"keep","namespace":"plant","uid":"u"}}}`)
	f.Add(`{"type":"ADDED","object":null}{"type":"MODIFIED","object":[]}`)
	f.Add(`{"type":"ERROR","object":7}`)
	f.Add(`{"type":"ADDED","object":{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"name":"a"},"spec":{"properties":7}}}`)
	f.Fuzz(func(t *testing.T, stream string) {
		s := newStore("Device")
		s.begin()
		err := readEvents(strings.NewReader(stream), func(e event) error { s.event(e); return nil })
		require.Error(t, err)
		require.LessOrEqual(t, len(s.odd), maxOdd)
		s.parts()
		s.listed(nil)
	})
}
