package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// deviceStatuses reads what KubeEdge has of the twins: device name, property, text.
func (p *plant) deviceStatuses(ctx context.Context) (map[string]map[string]string, error) {
	out, err := p.stack.Kubectl(ctx, nil, "-n", p.Namespace, "get", "devicestatuses", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Twins []struct {
					PropertyName string
					Reported     struct{ Value string }
				}
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("read device statuses: %w", err)
	}
	all := map[string]map[string]string{}
	for _, item := range list.Items {
		twins := map[string]string{}
		for _, twin := range item.Status.Twins {
			twins[twin.PropertyName] = twin.Reported.Value
		}
		all[item.Metadata.Name] = twins
	}
	return all, nil
}

// views reads what devicemgmt shows of the twins, as deviceStatuses does.
func (p *plant) views(ctx context.Context) (map[string]map[string]string, error) {
	body, err := call(ctx, "GET", "http://"+p.api["devicemgmt"]+"/api/v1/devices?limit=500&namespace="+p.Namespace, p.token, "")
	if err != nil {
		return nil, err
	}
	var page struct {
		Items []struct {
			Name       string
			Properties []struct {
				Name     string
				Reported *struct{ Value json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		return nil, fmt.Errorf("read devices of devicemgmt: %w", err)
	}
	all := map[string]map[string]string{}
	for _, item := range page.Items {
		twins := map[string]string{}
		for _, property := range item.Properties {
			if property.Reported != nil {
				twins[property.Name] = strings.Trim(string(property.Reported.Value), `"`)
			}
		}
		all[item.Name] = twins
	}
	return all, nil
}

// equal reports whether a twin's text is the value; numbers are compared as such,
// since 21 and 21.0 are the same.
func equal(text, want string) bool {
	if text == want {
		return true
	}
	a, errA := strconv.ParseFloat(text, 64)
	b, errB := strconv.ParseFloat(want, 64)
	return errA == nil && errB == nil && math.Abs(a-b) <= 1e-6*math.Abs(b)
}

// twinsEqual returns how many devices' twins are as they should be, and what is not.
func twinsEqual(got, want map[string]map[string]string) (devices int, err error) {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		good := true
		for property, value := range want[name] {
			if text, ok := got[name][property]; !ok || !equal(text, value) {
				good = false
				wrong = append(wrong, fmt.Sprintf("%s.%s is %q, want %q", name, property, text, value))
			}
		}
		if good {
			devices++
		}
	}
	if len(wrong) > 0 {
		err = fmt.Errorf("%d wrong: %s", len(wrong), strings.Join(wrong[:min(len(wrong), 8)], "; "))
	}
	return devices, err
}

// constants are what the devices show from the start, but for the wave of the meters.
func (p *plant) constants() map[string]map[string]string {
	furnace := map[string]string{"temperature": "812.5", "pressure": "6.25", "level": "12.5", "alarm": "true", "serial": "FN-2041",
		"setpoint": "20", "mode": "eco", "total": "305419896", "running": "false"}
	meter := map[string]string{"energy": "9007199254740993", "label": "M-4711", "limit": "-5"}
	want := map[string]map[string]string{
		"furnace-1": furnace, "furnace-2": maps.Clone(furnace), "meter-1": meter, "meter-2": maps.Clone(meter), "gauge-1": gaugeConstants(),
		"bath-1": {"temperature": "20.5", "setpoint": "21", "mode": "hold"}, "receiver-1": {"speed": "12.5", "altitude": "545.4"},
	}
	for _, pump := range p.Pumps {
		want[pump.Name] = map[string]string{"flow": "0", "head": "0", "speed": "0", "valve": "false"}
	}
	return want
}

func gaugeConstants() map[string]string {
	return map[string]string{"mass": "1234.5", "count": "-987654", "sealed": "true", "tag": "GAUGE"}
}

// testTwins finds every device's values in DeviceStatus and in devicemgmt, and
// holds some of them against the registers as they are on the wire.
func (p *plant) testTwins(t *testing.T) {
	on(t, kubernetes, kubeEdge, broker, containerd)
	p.concerns(t, "modbus-mapper", "serial-mapper", "devicemgmt", "simulator")
	ctx := t.Context()
	want := p.constants()
	eventually(t, 120*time.Second, fmt.Sprintf("DeviceStatus of %d devices", len(want)), func() error {
		got, err := p.deviceStatuses(ctx)
		if err == nil {
			_, err = twinsEqual(got, want)
		}
		return err
	})
	eventually(t, 15*time.Second, "devicemgmt shows the same", func() error {
		got, err := p.views(ctx)
		if err == nil {
			_, err = twinsEqual(got, want)
		}
		return err
	})
	// Orders, scale and offset, worked out by hand.
	line := p.FurnaceLine
	for what, err := range map[string]error{
		"812.5 as float32 CDAB":       shows(ctx, line, 1, holdingTable, 0, 0x2000, 0x444b),
		"6.25 as float64":             shows(ctx, line, 1, holdingTable, 2, 0x4019, 0, 0, 0),
		"12.5 as 0.1 x 525 - 40":      shows(ctx, line, 1, holdingTable, 6, 525),
		"12.5 as 0.01 x 1250":         shows(ctx, line, 2, holdingTable, 40, 1250),
		"true as bit 3":               shows(ctx, line, 1, holdingTable, 7, 1<<3),
		"FN-2041 as text":             shows(ctx, line, 1, holdingTable, 8, 'F'<<8|'N', '-'<<8|'2', '0'<<8|'4', '1'<<8),
		"20 as float32 DCBA":          shows(ctx, line, 1, holdingTable, 12, 0, 0xa041),
		"eco as 1":                    shows(ctx, line, 1, holdingTable, 14, 1),
		"305419896 as uint32 BADC":    shows(ctx, line, 1, inputTable, 0, 0x3412, 0x7856),
		"false as a coil that is off": shows(ctx, line, 1, coilTable, 0, 0),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// testBrokenDevice declares a register that cannot be. The mapper names object,
// field and remedy, in its log and its API, counts it, and serves the others on.
func (p *plant) testBrokenDevice(t *testing.T) {
	on(t, kubernetes, kubeEdge)
	p.concerns(t, "modbus-mapper")
	ctx := t.Context()
	apply(t, p.stack, string(render(t, "broken.yaml", p)))
	words := []string{p.id("broken-1"), "flow", "address", "70000", "65535"}
	eventually(t, 60*time.Second, "the problem in log, API and metric", func() error {
		problems, err := call(ctx, "GET", "http://"+p.api["modbus-mapper"]+"/api/v1/problems", "", "")
		if err != nil {
			return err
		}
		count, err := p.metric(ctx, "modbus-mapper", "twinline_mapper_problems")
		if err == nil && count < 1 {
			err = fmt.Errorf("twinline_mapper_problems is %g", count)
		}
		return errors.Join(err, contains("the mapper's API", problems, words), contains("the mapper's log", p.log("modbus-mapper"), words))
	})
	before, _, _ := p.recorder.latest(p.id("furnace-1"))
	eventually(t, 10*time.Second, "the others go on", func() error {
		now, _, _ := p.recorder.latest(p.id("furnace-1"))
		if now.Epoch != before.Epoch || now.Seq < before.Seq+3 {
			return fmt.Errorf("the latest sample is %s, was %s", now, before)
		}
		return nil
	})
}

// contains returns nil when one line of text has all the words.
func contains(where, text string, words []string) error {
	best := -1
	var missing string
lines:
	for line := range strings.Lines(text) {
		for i, word := range words {
			if !strings.Contains(line, word) {
				if i > best {
					best, missing = i, word
				}
				continue lines
			}
		}
		return nil
	}
	return fmt.Errorf("no line of %s has %q together with %q", where, missing, words[:max(best, 0)])
}
