package e2e

import (
	"strings"
	"testing"

	"github.com/twinline/twinline/test/e2e/stack"
)

// testFaults looks at every sample of the devices that answer badly: a property has
// its value or is bad, and is never another's.
func (p *plant) testFaults(t *testing.T) {
	on(t, "Modbus TCP and RTU with faults on the line")
	p.concerns(t, "modbus-mapper")
	for device, want := range map[string]map[string]string{"gauge-1": gaugeConstants(), "meter-2": p.constants()["meter-2"]} {
		samples := p.recorder.of(p.id(device))
		bad, all := 0, 0
		for k, s := range samples {
			for property, raw := range s.Values {
				value, ok := want[property]
				if ok && !equal(strings.Trim(string(raw), `"`), value) {
					t.Errorf("%s: %s is %s, want %s", k, property, raw, value)
				}
			}
			bad += len(s.Quality)
			all += len(s.Quality) + len(s.Values)
		}
		t.Logf("%s: %d samples, %d of %d readings are bad", device, len(samples), bad, all)
		if len(samples) < 30 || bad == 0 || bad > all/2 {
			t.Errorf("%s: %d samples, %d of %d readings are bad; want at least 30, and some to half bad", device, len(samples), bad, all)
		}
	}
}

// testStop ends every part with SIGTERM. The pods ended before, or do at the end.
func (p *plant) testStop(t *testing.T) {
	for _, part := range []*process{p.devicemgmt, p.storage, p.telemetry, p.simulator} {
		t.Run(part.name, func(t *testing.T) {
			p.concerns(t, part.name)
			if err := part.terminate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// testUnharmed finds every component of the stack well, and EdgeCore and CloudCore
// the processes they were: nothing that was sent to them has stopped them.
func (p *plant) testUnharmed(t *testing.T) {
	on(t, kubernetes, kubeEdge)
	for _, h := range p.stack.Status(t.Context()) {
		if h.Err != nil {
			t.Errorf("%s: %v", h.Component, h.Err)
		}
		if was := p.pids[h.Component]; was != h.PID && (h.Component == stack.EdgeCore || h.Component == stack.CloudCore) {
			t.Errorf("%s is process %d, was %d", h.Component, h.PID, was)
		}
	}
}
