package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/simulator"
)

// The flood: a frame without an end, as fast as the mapper takes it.
const (
	floodBytes  = 1 << 30
	floodTime   = 20 * time.Second
	floodPiece  = 4 << 10  // what a terminal takes at once
	handsBytes  = 64 << 20 // what the loop by hand is given: it keeps all
	floodDevice = `apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: board, namespace: default}
spec:
  protocol: serial
  properties:
  - {name: temperature, type: DOUBLE, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: board-1, namespace: default}
spec:
  deviceModelRef: {name: board}
  nodeName: bench
  protocol: {protocolName: serial, configData: {url: "serial://%s?baud=115200", framing: {max: %d}}}
  properties:
  - {name: temperature, collectCycle: 1000, reportCycle: 1000, reportToCloud: false, visitors: {protocolName: serial, configData: {name: TEMP}}}
`
)

// flooded is what a flood came to.
type flooded struct {
	bytes         int
	took, cpu     time.Duration
	before, after float64 // MiB: resident when the device was heard, and at the worst
}

// floodMapper sends the serial mapper, on a pseudo terminal, a frame without an end, and shows
// its memory beside that of a loop that reads lines of any length.
func floodMapper(ctx context.Context, o options, dir, self string) error {
	fmt.Println("\nbuilding serial-mapper")
	err := command(ctx, o.root, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./mappers/serial/cmd/serial-mapper")
	if err != nil {
		return err
	}
	near, far, err := simulator.NewPTY()
	if err != nil {
		return err
	}
	defer near.Close()
	defer far.Close()
	manifests := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		return err
	}
	device := fmt.Sprintf(floodDevice, far.Name(), framing.MaxFrame)
	err = errors.Join(os.WriteFile(filepath.Join(manifests, "board.yaml"), []byte(device), 0o644), os.WriteFile(filepath.Join(dir, "mosquitto.conf"), []byte(brokerConfig), 0o644))
	if err != nil {
		return err
	}
	broker, err := launch(ctx, dir, mosquitto(), "-c", filepath.Join(dir, "mosquitto.conf"))
	if err != nil {
		return err
	}
	defer broker.stop()
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	mapper, err := launch(ctx, dir, filepath.Join(dir, "serial-mapper"), "--bus=tcp://"+brokerAddress, "--manifests="+manifests,
		"--state="+filepath.Join(dir, "state"), "--listen=", "--metrics=", "--twin-rate=1")
	if err != nil {
		return err
	}
	defer mapper.stop()
	ours, err := flood(ctx, near, mapper)
	if err != nil {
		return errors.Join(err, mapper.alive())
	}
	theirs, err := measureSide(ctx, []string{self, "-only", "serial"}, []string{sideVariable + "=endless - " + strconv.Itoa(min(handsBytes, ours.bytes))})
	if err != nil {
		return fmt.Errorf("the loop by hand: %w", err)
	}
	reportFlood(ours, theirs, min(handsBytes, ours.bytes))
	return nil
}

// flood sends bytes without a line end, between lines that must be heard.
func flood(ctx context.Context, near *os.File, mapper *process) (f flooded, err error) {
	if err := heard(ctx, near, "TEMP=20.5\n"); err != nil {
		return f, fmt.Errorf("before the flood: %w", err)
	}
	f.before, err = mapper.memory()
	if err != nil {
		return f, err
	}
	cpu, err := mapper.cpu()
	if err != nil {
		return f, err
	}
	piece := bytes.Repeat([]byte{'x'}, floodPiece)
	began := time.Now()
	for f.bytes < floodBytes && time.Since(began) < floodTime && ctx.Err() == nil {
		if err := near.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return f, fmt.Errorf("flood the line: %w", err)
		}
		n, err := near.Write(piece)
		f.bytes += n
		if err != nil {
			return f, fmt.Errorf("flood the line, after %d bytes: %w", f.bytes, err)
		}
		if f.bytes%(16<<20) == 0 {
			m, err := mapper.memory()
			if err != nil {
				return f, err
			}
			f.after = max(f.after, m)
		}
	}
	f.took = time.Since(began)
	end, err := mapper.cpu()
	if err != nil {
		return f, err
	}
	f.cpu = end - cpu
	m, err := mapper.memory()
	if err != nil {
		return f, err
	}
	f.after = max(f.after, m)
	if err := heard(ctx, near, "\nTEMP=21.5\n"); err != nil {
		return f, fmt.Errorf("after the flood: %w", err)
	}
	return f, nil
}

// heard says a line until a value arrives at the broker.
func heard(ctx context.Context, near *os.File, line string) error {
	count, unsubscribe, err := subscribe("twinline/telemetry/#")
	if err != nil {
		return err
	}
	defer unsubscribe()
	for range 30 {
		if err := near.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(near, line); err != nil {
			return fmt.Errorf("say %q: %w", line, err)
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if count.Load() > 0 {
			return nil
		}
	}
	return fmt.Errorf("%q was said for 15 s and not heard", line)
}

// endless is the loop by hand: it reads one line of so many bytes, and prints its memory.
func endless(bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	before, err := resident()
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(xs{}, int64(n))).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	after, err := resident()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(outcome{Values: len(line), Grown: after - before})
}

// xs says x for ever.
type xs struct{}

// Read implements io.Reader.
func (xs) Read(p []byte) (int, error) {
	p = p[:min(len(p), chunk)]
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// resident returns the most memory that this process had resident, in MiB.
func resident() (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("read memory: no VmHWM")
}

func reportFlood(ours flooded, theirs outcome, given int) {
	const mib = 1 << 20
	mebi := float64(ours.bytes) / mib
	// A scanner keeps MaxFrame bytes and what the last read of the port brought, in a buffer that may be twice as large.
	bound := 2 * float64(framing.MaxFrame+floodPiece) / mib
	fmt.Printf("\na frame without an end, on a pseudo terminal\n")
	fmt.Printf("  serial-mapper took %.0f MiB in %.1f s (%.0f MiB/s, %.0f ms of CPU per MiB), and heard the line after it\n",
		mebi, ours.took.Seconds(), mebi/ours.took.Seconds(), float64(ours.cpu.Milliseconds())/mebi)
	fmt.Printf("  %-32s %8.1f MiB resident before, %.1f at the worst: %+.1f; the frame's buffer is at most %.2f (MaxFrame is %d bytes)\n",
		"serial-mapper", ours.before, ours.after, ours.after-ours.before, bound, framing.MaxFrame)
	fmt.Printf("  %-32s %8.1f MiB more for %d MiB, and no end\n", "bufio.Reader.ReadString", theirs.Grown, given/mib)
	fmt.Printf("  bufio.Scanner ends at %d bytes: it grows no further, and hears nothing more\n", bufio.MaxScanTokenSize)
}
