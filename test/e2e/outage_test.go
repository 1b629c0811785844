package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// load drives the pumps: each second every one of them shows something new.
type load struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (p *plant) startLoad(t *testing.T) *load {
	t.Helper()
	masters := map[string]*master{}
	for _, pump := range p.Pumps {
		if masters[pump.Line] == nil {
			masters[pump.Line] = dial(t, pump.Line)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for round := 1; ctx.Err() == nil; round++ {
			for i, pump := range p.Pumps {
				flow := uint32(1000*round + i)
				head := math.Float32bits(float32(round) + float32(i)/8)
				err := masters[pump.Line].write(byte(pump.Unit), 0, uint16(flow>>16), uint16(flow), uint16(head>>16), uint16(head))
				if err != nil {
					l.err = fmt.Errorf("drive %s: %w", pump.Name, err)
					return
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { _ = l.stop() })
	return l
}

// stop ends the load: from now on nothing changes.
func (l *load) stop() error {
	l.cancel()
	<-l.done
	return l.err
}

// devicesNow reads the registers of all devices on TCP, and adds what the
// others show.
func (p *plant) devicesNow(t *testing.T) (map[string]map[string]string, error) {
	t.Helper()
	want := p.constants()
	masters := map[string]*master{p.FurnaceLine: dial(t, p.FurnaceLine)}
	for unit, name := range []string{"furnace-1", "furnace-2"} {
		words, err := masters[p.FurnaceLine].read(byte(unit+1), 0, 6)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		setpoint, err := masters[p.FurnaceLine].read(byte(unit+1), 12, 2)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		running, err := masters[p.FurnaceLine].coil(byte(unit+1), 0)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		want[name]["temperature"] = float32Text(words[1], words[0])
		want[name]["pressure"] = strconv.FormatFloat(math.Float64frombits(
			uint64(words[2])<<48|uint64(words[3])<<32|uint64(words[4])<<16|uint64(words[5])), 'g', -1, 64)
		want[name]["setpoint"] = float32Text(swap(setpoint[1]), swap(setpoint[0]))
		want[name]["running"] = strconv.FormatBool(running)
	}
	want["furnace-1"]["mode"], want["furnace-2"]["mode"] = "boost", "off"
	want["meter-1"]["limit"] = "-42"
	want["bath-1"]["setpoint"], want["bath-1"]["mode"] = "33.5", "heat"
	for _, pump := range p.Pumps {
		if masters[pump.Line] == nil {
			masters[pump.Line] = dial(t, pump.Line)
		}
		words, err := masters[pump.Line].read(byte(pump.Unit), 0, 5)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", pump.Name, err)
		}
		valve, err := masters[pump.Line].coil(byte(pump.Unit), 0)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", pump.Name, err)
		}
		want[pump.Name] = map[string]string{
			"flow": strconv.Itoa(int(int32(uint32(words[0])<<16 | uint32(words[1])))), "head": float32Text(words[2], words[3]),
			"speed": strconv.Itoa(int(words[4])), "valve": strconv.FormatBool(valve),
		}
	}
	return want, nil
}

func float32Text(hi, lo uint16) string {
	return strconv.FormatFloat(float64(math.Float32frombits(uint32(hi)<<16|uint32(lo))), 'g', -1, 64)
}

func swap(w uint16) uint16 { return w<<8 | w>>8 }

// setPressure changes the pressure of the first furnace, at the device.
func (p *plant) setPressure(t *testing.T, bar float64) {
	t.Helper()
	data := binary.BigEndian.AppendUint64(nil, math.Float64bits(bar))
	words := make([]uint16, 4)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	if err := dial(t, p.FurnaceLine).write(1, 2, words...); err != nil {
		t.Fatal(err)
	}
}

// testOutage cuts the link under load, kills what stores meanwhile, and heals
// it. The database must have exactly what uplink acknowledged, and the twins
// must equal the devices.
func (p *plant) testOutage(t *testing.T) {
	on(t, kubernetes, kubeEdge, kafkaBroker, database, broker, containerd)
	p.concerns(t, "uplink", "modbus-mapper", "telemetry", "storage", "reactor")
	ctx := t.Context()
	valve := p.Pumps[0]
	if err := p.desire(ctx, valve.Name, "valve", "false"); err != nil {
		t.Fatal(err)
	}
	load := p.startLoad(t)
	time.Sleep(10 * time.Second) // the pipeline is full when the link goes

	start := time.Now()
	if err := p.stack.CutLink(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stack.HealLink(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	t.Run("reactions work with the link cut", p.testReaction)
	t.Run("uplink keeps samples with the link cut", p.testLocalAck)
	for _, part := range []*process{p.storage, p.telemetry} {
		p.crash(t, part)
	}
	p.crashPod(t, "uplink")
	p.crashPod(t, "modbus-mapper")
	if err := dial(t, p.FurnaceLine).write(2, 0, 0x8000, 0x4451); err != nil { // 838 as float32 CDAB
		t.Fatal(err)
	}
	time.Sleep(time.Until(start.Add(outage(t))))
	if !p.stack.LinkCut(ctx) {
		t.Fatal("the link was not cut all the time")
	}
	if err := p.stack.HealLink(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 180*time.Second, "the first samples pass the healed link", func() error {
		status, err := p.spool(ctx)
		if err == nil && status.Sent == 0 { // since its crash
			err = fmt.Errorf("%d samples wait in the spool", status.Records)
		}
		return err
	})
	p.crash(t, p.telemetry) // while all works off what has piled up
	p.crash(t, p.storage)
	if err := load.stop(); err != nil {
		t.Fatal(err)
	}
	p.settle(t)
}

// crash kills a part with SIGKILL and starts it again.
func (p *plant) crash(t *testing.T, part *process) {
	t.Helper()
	if err := part.ended(); err != nil {
		t.Fatal(err)
	}
	if err := part.kill9(); err != nil {
		t.Fatal(err)
	}
	if err := part.start(); err != nil {
		t.Fatal(err)
	}
	part.ready(t, p.api[part.name])
}

// crashPod kills a part that runs as a pod with SIGKILL. EdgeCore starts it again, without the cloud.
func (p *plant) crashPod(t *testing.T, part string) {
	t.Helper()
	before, err := p.pid(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", part, err)
	}
	eventually(t, 60*time.Second, part+" is back after SIGKILL", func() error {
		now, err := p.pid(part)
		if err == nil && now == before {
			err = fmt.Errorf("process %d still runs", now)
		}
		if err == nil {
			_, err = call(t.Context(), "GET", "http://"+p.api[part]+"/ready", "", "")
		}
		return err
	})
}

// pid finds the process of a pod by the flag that no other process has.
func (p *plant) pid(part string) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(data), "\x00")
		if args[0] == "/app" && slices.Contains(args, "--metrics="+p.metrics[part]) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, fmt.Errorf("%s does not run", part)
}

// testReaction crosses the limit of the Reaction: the register of another device
// changes, and goes back when the limit is kept again.
func (p *plant) testReaction(t *testing.T) {
	on(t, "Modbus TCP, with mbpoll of Debian", broker, containerd)
	p.concerns(t, "reactor", "modbus-mapper")
	ctx := t.Context()
	if !p.stack.LinkCut(ctx) {
		t.Fatal("the link is not cut")
	}
	valve := p.Pumps[0]
	p.setPressure(t, 12.5)
	eventually(t, 15*time.Second, "the valve opens", func() error { return shows(ctx, valve.Line, valve.Unit, coilTable, 0, 1) })
	p.setPressure(t, 9) // between the limits: it stays open
	time.Sleep(3 * time.Second)
	if err := shows(ctx, valve.Line, valve.Unit, coilTable, 0, 1); err != nil {
		t.Errorf("between the limits: %v", err)
	}
	p.setPressure(t, 5)
	eventually(t, 15*time.Second, "the valve is as desired again", func() error { return shows(ctx, valve.Line, valve.Unit, coilTable, 0, 0) })
}

// testLocalAck sees uplink acknowledge samples that the cloud cannot have, and say that the link is down.
func (p *plant) testLocalAck(t *testing.T) {
	on(t, broker, containerd)
	p.concerns(t, "uplink")
	ctx := t.Context()
	var before spool
	eventually(t, 60*time.Second, "uplink says that the link is down", func() (err error) {
		before, err = p.spool(ctx)
		if err == nil && (before.Link == nil || before.Link.Up) {
			err = fmt.Errorf("%+v", before)
		}
		return err
	})
	had, _ := p.recorder.acknowledged()
	eventually(t, 30*time.Second, "samples are acknowledged all the same", func() error {
		has, _ := p.recorder.acknowledged()
		if more := len(has) - len(had); more < 5*len(p.Pumps) {
			return fmt.Errorf("%d more", more)
		}
		return nil
	})
	after, err := p.spool(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if after.Sent != before.Sent || after.Records < before.Records+4*len(p.Pumps) { // those under way are not counted
		t.Errorf("the spool while the link is cut was %+v and is %+v", before, after)
	}
}

// spool is what uplink says of its spool.
type spool struct {
	Records int    // that wait
	Sent    uint64 // since uplink was started
	Link    *struct{ Up bool }
}

func (p *plant) spool(ctx context.Context) (status spool, err error) {
	body, err := call(ctx, "GET", "http://"+p.api["uplink"]+"/api/v1/spool", "", "")
	if err == nil {
		err = json.Unmarshal([]byte(body), &status)
	}
	return status, err
}

// settle waits until all is where it belongs after the outage, and says the figures.
func (p *plant) settle(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	want, err := p.devicesNow(t)
	if err != nil {
		t.Fatal(err)
	}
	var equal int
	eventually(t, 150*time.Second, "the twins equal the devices", func() error {
		got, err := p.deviceStatuses(ctx)
		if err == nil {
			equal, err = twinsEqual(got, want)
		}
		return err
	})
	// Without mappers there are no new samples: what is there can be counted.
	if _, err := p.stack.Kubectl(ctx, nil, "-n", edgeNamespace, "delete", "daemonset", "modbus-mapper", "serial-mapper", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 120*time.Second, "the mappers are gone", func() error {
		pods, err := p.pods(ctx, "app in (modbus-mapper,serial-mapper)")
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%d pods", len(pods))
		}
		return err
	})
	line := filepath.Join(p.dir, "rtu0")
	if err := showsSerial(ctx, line, 1, 110, 0xffd6); err != nil { // -42
		t.Error(err)
	}
	var published int
	eventually(t, 60*time.Second, "uplink acknowledges all that was published", func() error {
		acked, all := p.recorder.acknowledged()
		published = all
		return p.unacknowledged(acked)
	})
	var figures comparison
	eventually(t, 150*time.Second, "the database has exactly what was acknowledged", func() error {
		got, err := storedSamples(ctx, p.database, p.Namespace)
		if err != nil {
			return err
		}
		acked, _ := p.recorder.acknowledged()
		figures = compare(acked, got)
		return figures.err()
	})
	t.Logf("published %s samples", thousands(published))
	t.Attr("figure", fmt.Sprintf("%s; twins equal %d of %d", figures, equal, len(want)))
}

// unacknowledged returns nil when every sample of the newest epoch of each
// device is acknowledged: one that was under way when a mapper ended may be lost.
func (p *plant) unacknowledged(acked map[key]sample) error {
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	newest := map[string]uint64{}
	for k := range p.recorder.samples {
		newest[k.device] = max(newest[k.device], k.Epoch)
	}
	left := maps.Clone(p.recorder.samples)
	maps.DeleteFunc(left, func(k key, _ sample) bool { _, ok := acked[k]; return ok || k.Epoch < newest[k.device] })
	for k := range left {
		return fmt.Errorf("%d samples are not acknowledged, such as %s", len(left), k)
	}
	return nil
}
