package serial

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// meter answers the dialogue of IEC 62056-21 in mode C on a pseudo terminal: it
// hears and speaks only at the rate that it and the reader agreed on.
type meter struct {
	far, near *os.File

	mu    sync.Mutex
	rates []uint32 // of the line when it spoke
}

const data = "0.0.0(4711)\r\n1.8.0(000123.456*kWh)\r\n16.7.0(-01.5*kW)\r\n!\r\n"

func newMeter(t *testing.T) *meter {
	t.Helper()
	far, near, err := pty.Open()
	require.NoError(t, err)
	m := &meter{far: far, near: near}
	var serving sync.WaitGroup
	serving.Go(m.serve)
	t.Cleanup(func() { _ = far.Close(); _ = near.Close(); serving.Wait() })
	return m
}

func (m *meter) rate() uint32 {
	termios, err := unix.IoctlGetTermios(int(m.near.Fd()), unix.TCGETS)
	if err != nil {
		return 0
	}
	return termios.Cflag & unix.CBAUD
}

func (m *meter) serve() {
	buf, heard := make([]byte, 256), ""
	for {
		n, err := m.far.Read(buf)
		if err != nil {
			return
		}
		heard += string(buf[:n])
		switch {
		case strings.HasSuffix(heard, "/?!\r\n") && m.rate() == unix.B300:
			m.say("/EMH5\\@201 TEST\r\n")
			heard = ""
		case strings.HasSuffix(heard, "\x06050\r\n"):
			for m.rate() != unix.B9600 { // it speaks at the rate agreed on
			}
			block := data + "\x03"
			sum := byte(0)
			for _, b := range []byte(block) {
				sum ^= b
			}
			m.say("\x02" + block + string(sum))
			heard = ""
		}
	}
}

func (m *meter) say(text string) {
	m.mu.Lock()
	m.rates = append(m.rates, m.rate())
	m.mu.Unlock()
	_, _ = m.far.WriteString(text)
}

func TestAMeterIsReadByItsDialogue(t *testing.T) {
	m := newMeter(t)
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "meter"}, Protocol: "serial", Config: map[string]any{"url": "serial://" + m.near.Name(), "profile": "iec62056"}}
	for name, field := range map[string]string{"energy": "1.8.0", "power": "16.7.0", "absent": "2.8.0"} {
		d.Properties = append(d.Properties, twin.Property{Name: name, Type: twin.TypeDouble, Visitor: map[string]any{"field": field}})
	}
	c := open(t, New(), d)
	for range 2 {
		r := <-reads(c, "energy", "power", "absent")
		require.NoError(t, r.err)
		require.Equal(t, twin.FloatValue(123.456), r.readings[0].Value)
		require.Equal(t, twin.FloatValue(-1.5), r.readings[1].Value)
		require.Equal(t, twin.Bad("missing"), r.readings[2].Quality)
		require.True(t, r.readings[0].Time.IsZero(), "it was asked")
	}
	require.Equal(t, []uint32{unix.B300, unix.B9600, unix.B300, unix.B9600}, m.rates)
}

func TestAMeterOfAnotherNumberIsNotTaken(t *testing.T) {
	m := newMeter(t)
	d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "meter"}, Protocol: "serial", Config: map[string]any{"url": "serial://" + m.near.Name(), "profile": "iec62056", "sender": "other"}}
	d.Properties = []twin.Property{{Name: "energy", Type: twin.TypeDouble, Visitor: map[string]any{"field": "1.8.0"}}}
	r := <-reads(open(t, New(), d), "energy")
	require.Equal(t, "foreign", mapper.Reason(r.err))
}
