package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// desire sets a desired value as a person does with kubectl.
func (p *plant) desire(ctx context.Context, device, property, value string) error {
	out, err := p.stack.Kubectl(ctx, nil, "-n", p.Namespace, "get", "device", device, "-o", "json")
	if err != nil {
		return err
	}
	var object struct {
		Spec struct{ Properties []struct{ Name string } }
	}
	if err := json.Unmarshal(out, &object); err != nil {
		return fmt.Errorf("read device %s: %w", device, err)
	}
	for i, have := range object.Spec.Properties {
		if have.Name != property {
			continue
		}
		patch := fmt.Sprintf(`[{"op":"add","path":"/spec/properties/%d/desired","value":{"value":%q}}]`, i, value)
		_, err := p.stack.Kubectl(ctx, nil, "-n", p.Namespace, "patch", "device", device, "--type=json", "-p", patch)
		return err
	}
	return fmt.Errorf("device %s has no property %s", device, property)
}

// twinIs returns nil when DeviceStatus has the value.
func (p *plant) twinIs(ctx context.Context, device, property, value string) error {
	got, err := p.deviceStatuses(ctx)
	if err == nil {
		_, err = twinsEqual(got, map[string]map[string]string{device: {property: value}})
	}
	return err
}

// testDesired patches Devices with kubectl, reads the registers with mbpoll, and
// finds the twins. A value that may not be is refused, and no register changes.
func (p *plant) testDesired(t *testing.T) {
	on(t, kubernetes, kubeEdge, broker, "mbpoll of Debian")
	p.concerns(t, "modbus-mapper", "simulator")
	ctx := t.Context()
	for _, wish := range []struct{ device, property, value string }{
		{"furnace-1", "setpoint", "22.5"}, {"furnace-1", "mode", "boost"}, {"furnace-1", "running", "true"}, {"meter-1", "limit", "-42"},
	} {
		if err := p.desire(ctx, wish.device, wish.property, wish.value); err != nil {
			t.Fatal(err)
		}
	}
	registers := func() error {
		return firstOf(
			shows(ctx, p.FurnaceLine, 1, holdingTable, 12, 0, 0xb441),
			shows(ctx, p.FurnaceLine, 1, holdingTable, 14, 2),
			shows(ctx, p.FurnaceLine, 1, coilTable, 0, 1))
	}
	eventually(t, 60*time.Second, "the registers change", registers)
	eventually(t, 30*time.Second, "the twins follow", func() error {
		return firstOf(p.twinIs(ctx, "furnace-1", "setpoint", "22.5"), p.twinIs(ctx, "furnace-1", "mode", "boost"),
			p.twinIs(ctx, "furnace-1", "running", "true"), p.twinIs(ctx, "meter-1", "limit", "-42"))
	})
	if err := shows(ctx, p.FurnaceLine, 2, holdingTable, 12, 0, 0xa041, 1); err != nil {
		t.Errorf("the neighbour on the line: %v", err)
	}

	if err := p.desire(ctx, "furnace-1", "setpoint", "500"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "500 is refused", func() error {
		problems, err := call(ctx, "GET", "http://"+p.api["modbus-mapper"]+"/api/v1/problems", "", "")
		if err != nil {
			return err
		}
		return contains("the mapper's API", problems, []string{p.id("furnace-1"), "setpoint", "desired", "500", "400"})
	})
	if err := registers(); err != nil {
		t.Errorf("after a value out of range: %v", err)
	}
	if err := p.desire(ctx, "furnace-1", "setpoint", "22.5"); err != nil {
		t.Fatal(err)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// testMapperRestart changes a register behind the mapper's back and restarts the
// mapper. It must report the register and not write the desired value again.
func (p *plant) testMapperRestart(t *testing.T) {
	on(t, kubernetes, kubeEdge, containerd)
	p.concerns(t, "modbus-mapper")
	ctx := t.Context()
	eventually(t, 30*time.Second, "no problem is left", func() error {
		problems, err := call(ctx, "GET", "http://"+p.api["modbus-mapper"]+"/api/v1/problems", "", "")
		if err == nil && strings.Contains(problems, p.id("furnace-1")) {
			err = fmt.Errorf("problems: %s", problems)
		}
		return err
	})
	if err := dial(t, p.FurnaceLine).write(1, 12, 0, 0x0442); err != nil { // 33 as float32 DCBA
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the twin shows what the device holds", func() error {
		return p.twinIs(ctx, "furnace-1", "setpoint", "33")
	})
	before, _, _ := p.recorder.latest(p.id("furnace-1"))
	pods, err := p.pods(ctx, "app=modbus-mapper")
	if err != nil || len(pods) != 1 {
		t.Fatalf("%d pods, %v", len(pods), err)
	}
	if _, err := p.stack.Kubectl(ctx, nil, "-n", edgeNamespace, "delete", "pod", pods[0].Metadata.Name, "--wait=false"); err != nil {
		t.Fatal(err)
	}
	p.podReady(t, "modbus-mapper", pods[0].Metadata.UID)
	eventually(t, 60*time.Second, "the mapper polls again, in a new epoch", func() error {
		now, _, _ := p.recorder.latest(p.id("furnace-1"))
		if now.Epoch <= before.Epoch || now.Seq < 10 {
			return fmt.Errorf("the latest sample is %s, was %s", now, before)
		}
		return nil
	})
	if err := shows(ctx, p.FurnaceLine, 1, holdingTable, 12, 0, 0x0442, 2); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if err := p.twinIs(ctx, "furnace-1", "setpoint", "33"); err != nil {
		t.Error(err)
	}
}
