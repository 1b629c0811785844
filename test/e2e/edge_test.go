package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startEdge runs the edge parts as pods, from the manifests that are shipped and
// with images of one static binary.
func (p *plant) startEdge(t *testing.T) {
	t.Helper()
	for _, part := range append(edgeParts(), "twinline") {
		if err := p.stack.Image(t.Context(), filepath.Join(p.bin, part), "docker.io/twinline/"+part+":e2e"); err != nil {
			t.Fatal(err)
		}
	}
	overlay := p.overlay(t)
	if _, err := p.stack.Kubectl(t.Context(), nil, "apply", "--server-side", "--force-conflicts", "-k", overlay); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.removeEdge(t) })
	p.concerns(t, edgeParts()...)
	for _, part := range edgeParts() {
		p.podReady(t, part, "")
	}
}

// overlay writes the overlay of this run and returns its folder.
func (p *plant) overlay(t *testing.T) string {
	t.Helper()
	line, bath := p.serialLine(t, "rtu0"), p.serialLine(t, tapName)
	volumes, err := p.stack.HostDir("suite")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(volumes); err != nil {
			t.Error(err)
		}
	})
	folder := filepath.Join(p.dir, "edge")
	base, err := filepath.Abs("../../deploy/kustomize/base/edge")
	if err == nil {
		base, err = filepath.Rel(folder, base)
	}
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	flags := map[string][]string{}
	for _, part := range edgeParts() {
		_, ports[part], _ = net.SplitHostPort(p.api[part])
		flags[part] = []string{"--bus=" + p.stack.Broker, "--listen=" + p.api[part], "--metrics=" + p.metrics[part]}
	}
	for _, mapper := range []string{"modbus-mapper", "serial-mapper"} {
		flags[mapper] = append(flags[mapper], "--metaserver="+p.stack.MetaServer)
	}
	flags["uplink"] = append(flags["uplink"], "--to=servicebus://"+strings.TrimPrefix(p.stack.ServiceBus, "http://"), "--rate=5")
	data := map[string]any{"Base": base, "Token": p.token, "Volumes": volumes, "SerialLine": line, "BathLine": bath, "API": ports, "Flags": flags}
	p.write(t, "edge/reaction.yaml", render(t, "reaction.yaml", p))
	p.write(t, "edge/kustomization.yaml", render(t, "edge/kustomization.yaml", data))
	return folder
}

// serialLine gives a line of the plant a path that pods can mount.
func (p *plant) serialLine(t *testing.T, name string) string {
	t.Helper()
	tty, err := filepath.EvalSymlinks(filepath.Join(p.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	line, err := p.stack.SerialLine("suite-"+name, tty)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(line); err != nil {
			t.Error(err)
		}
	})
	return line
}

// pod is what the suite needs to know of one.
type pod struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp *time.Time
	}
	Status struct {
		Phase             string
		ContainerStatuses []struct {
			Ready        bool
			RestartCount int
		}
	}
}

// pods lists the pods of a part.
func (p *plant) pods(ctx context.Context, selector string) ([]pod, error) {
	out, err := p.stack.Kubectl(ctx, nil, "-n", edgeNamespace, "get", "pods", "-l", selector, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []pod }
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", selector, err)
	}
	return list.Items, nil
}

// podReady waits until a part runs as one pod that is ready, and other than the
// one whose uid is given. It asks the part itself too: the cloud's view is late.
func (p *plant) podReady(t *testing.T, part, but string) pod {
	t.Helper()
	var ready pod
	eventually(t, 150*time.Second, "pod "+part+" is ready", func() error {
		pods, err := p.pods(t.Context(), "app="+part)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			status := pod.Status.ContainerStatuses
			if pod.Metadata.UID != but && pod.Metadata.DeletionTimestamp == nil && len(status) == 1 && status[0].Ready {
				ready = pod
				_, err := call(t.Context(), "GET", "http://"+p.api[part]+"/ready", "", "")
				return err
			}
		}
		return fmt.Errorf("of %d pods none is ready: %+v", len(pods), pods)
	})
	return ready
}

// removeEdge deletes the edge parts and waits until their pods are gone.
func (p *plant) removeEdge(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := p.stack.Kubectl(ctx, nil, "-n", edgeNamespace, "delete", "daemonset,configmap,secret",
		"-l", ofTwinline, "--wait=true", "--timeout=60s"); err != nil {
		t.Error(err)
	}
	for {
		var all []pod
		for _, part := range edgeParts() {
			pods, err := p.pods(ctx, "app="+part)
			if err != nil {
				t.Error(err)
				return
			}
			all = append(all, pods...)
		}
		if len(all) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%d edge pods are still there", len(all))
			return
		case <-time.After(time.Second):
		}
	}
}

// log returns what a part has written.
func (p *plant) log(part string) string {
	for _, proc := range []*process{p.simulator, p.telemetry, p.storage, p.devicemgmt} {
		if proc != nil && proc.name == part {
			return proc.text()
		}
	}
	pods, err := p.pods(context.Background(), "app="+part)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, pod := range pods {
		log, err := p.stack.PodLog(edgeNamespace, pod.Metadata.Name)
		if err != nil {
			log = err.Error()
		}
		text.WriteString(log)
	}
	return text.String()
}

// concerns names the real components of a test, and the parts whose logs tell why it failed.
func (p *plant) concerns(t *testing.T, parts ...string) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, part := range parts {
			t.Logf("the last lines of %s:\n%s", part, tail(p.log(part), 25))
		}
	})
}

// metric returns one of a part's Prometheus metrics, given as in its text form.
func (p *plant) metric(ctx context.Context, part, name string) (float64, error) {
	body, err := call(ctx, "GET", "http://"+p.metrics[part]+"/metrics", "", "")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", part, name)
}
