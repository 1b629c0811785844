package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// tapName is the line of the bath as the mapper's pod has it.
const tapName = "bath-tap"

// tapBath puts socat between the simulated bath and the mapper, so that what is
// said on the line is written down by a program that knows nothing of Twinline.
func (p *plant) tapBath(t *testing.T, line string) {
	t.Helper()
	tap := filepath.Join(p.dir, tapName)
	p.tap = launch(t, p.dir, "tap", "socat", "-v", "pty,raw,echo=0,mode=666,link="+tap, "open:"+line+",raw,echo=0")
	eventually(t, 20*time.Second, "socat makes the line", func() error {
		if err := p.tap.ended(); err != nil {
			return stop{errors.New(p.tap.text())}
		}
		_, err := os.Stat(tap)
		return err
	})
}

// said returns how often a frame with the text went to the bath. socat -v writes
// "> date length=… from=… to=…" before what goes there, and dots for what cannot be printed.
func (p *plant) said(text string) int {
	frame := regexp.MustCompile(`> [0-9/]+ [0-9:.]+  length=\d+ from=\d+ to=\d+\n[^\n<>]*` + regexp.QuoteMeta(text))
	return len(frame.FindAllString(p.tap.text(), -1))
}

// testSerial sets the desired values of an instrument that speaks no Modbus: they
// become commands on its line, are read back, and show in the cloud. A Modbus device on the same
// node is set meanwhile. What was said stays as it was after a refused value.
func (p *plant) testSerial(t *testing.T) {
	on(t, kubernetes, kubeEdge, broker, containerd, "socat of Debian")
	p.concerns(t, "serial-mapper", "simulator")
	ctx := t.Context()
	for _, wish := range []struct{ device, property, value string }{
		{"bath-1", "setpoint", "33.5"}, {"furnace-1", "setpoint", "22.5"}, {"bath-1", "mode", "heat"},
	} {
		if err := p.desire(ctx, wish.device, wish.property, wish.value); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 60*time.Second, "the twins follow", func() error {
		return firstOf(p.twinIs(ctx, "bath-1", "setpoint", "33.5"), p.twinIs(ctx, "bath-1", "mode", "heat"), p.twinIs(ctx, "furnace-1", "setpoint", "22.5"))
	})
	for _, command := range []string{"07 SP=33.5", "07 M=W"} {
		if n := p.said(command); n == 0 {
			t.Errorf("%q was not said on the line:\n%s", command, tail(p.tap.text(), 20))
		}
	}
	if err := p.desire(ctx, "bath-1", "setpoint", "500"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "500 is refused", func() error {
		problems, err := call(ctx, "GET", "http://"+p.api["serial-mapper"]+"/api/v1/problems", "", "")
		if err != nil {
			return err
		}
		return contains("the mapper's API", problems, []string{p.id("bath-1"), "setpoint", "desired", "500", "90"})
	})
	if p.said("SP=500") > 0 {
		t.Error("a value out of range was said on the line")
	}
	if err := p.desire(ctx, "bath-1", "setpoint", "33.5"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "samples of the receiver", func() error {
		if samples := p.recorder.of(p.id("receiver-1")); len(samples) < 10 {
			return fmt.Errorf("%d samples of the receiver", len(samples))
		}
		return nil
	})
}
