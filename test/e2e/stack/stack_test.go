package stack

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestChoosePorts(t *testing.T) {
	want := wantedPorts()
	got, err := choosePorts(want, func(int) bool { return false })
	if err != nil || got != want {
		t.Fatalf("idle machine: got %+v, %v; want the wanted ports", got, err)
	}

	// Everything wanted is busy: all move, and no two to the same port.
	busy := map[int]bool{}
	for _, p := range want.list() {
		busy[*p] = true
	}
	got, err = choosePorts(want, func(p int) bool { return busy[p] })
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range got.list() {
		if busy[*p] || seen[*p] {
			t.Errorf("port %d: busy or given twice", *p)
		}
		seen[*p] = true
	}

	if _, err := choosePorts(want, func(int) bool { return true }); err == nil {
		t.Error("a machine without a free port: no error")
	}
}

func TestPortsListIsComplete(t *testing.T) {
	p := wantedPorts()
	seen := map[int]bool{}
	for _, port := range p.list() {
		if *port == 0 || seen[*port] {
			t.Errorf("port %d: unset or listed twice", *port)
		}
		seen[*port] = true
		if *port >= 32768 {
			t.Errorf("port %d: in the range the kernel gives to clients", *port)
		}
	}
	if len(seen) != 17 {
		t.Errorf("%d ports listed, want all 17 fields", len(seen))
	}
}

func TestKubernetesMod(t *testing.T) {
	const original = `module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require (
	example.com/a v1.0.0
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
)
`
	const want = `module twinline.invalid/build

go 1.24.0

godebug default=go1.24

require (
	k8s.io/kubernetes v1.33.13
	example.com/a v1.0.0
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => k8s.io/api v0.33.13
	k8s.io/client-go => k8s.io/client-go v0.33.13
)
`
	got, err := kubernetesMod(original, "v1.33.13")
	if err != nil || got != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	for name, bad := range map[string]string{
		"no module":     strings.Replace(original, "module ", "modul ", 1),
		"no require":    strings.Replace(original, "require (", "require(", 1),
		"other replace": strings.Replace(original, "./staging/src/k8s.io/api", "./elsewhere", 1),
	} {
		if _, err := kubernetesMod(bad, "v1.33.13"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := kubernetesMod(original, "1.33.13"); err == nil {
		t.Error("version without v: no error")
	}
}

func TestKubeEdgeMod(t *testing.T) {
	const original = `module github.com/kubeedge/kubeedge

require (
	github.com/kubeedge/api v0.0.0
)

replace (
	github.com/kubeedge/api => ./staging/src/github.com/kubeedge/api
	k8s.io/api => github.com/kubeedge/kubernetes/staging/src/k8s.io/api v1.32.10-kubeedge1
)
`
	got, err := kubeEdgeMod(original, "v1.23.1", "v1.23.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"\tgithub.com/kubeedge/kubeedge v1.23.1\n",
		"\tgithub.com/kubeedge/api => github.com/kubeedge/api v1.23.0\n",
		"\tk8s.io/api => github.com/kubeedge/kubernetes/staging/src/k8s.io/api v1.32.10-kubeedge1\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is missing in\n%s", line, got)
		}
	}
}

func TestVersionFlags(t *testing.T) {
	got := versionFlags("p/version", "v1.33.13")
	for _, flag := range []string{
		"-X p/version.gitVersion=v1.33.13", "-X p/version.gitMajor=1", "-X p/version.gitMinor=33",
	} {
		if !strings.Contains(got, flag) {
			t.Errorf("%q is missing in %q", flag, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2"
	got, err := parseStat([]byte(line))
	if err != nil || got != (procStat{state: 'S', parent: 7, start: 98765}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 7", strings.Replace(line, "98765", "x", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// A recorded pid that now belongs to another process must never be signalled.
func TestProcessIdentity(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	p, err := identify(cmd.Process.Pid)
	if err != nil || !p.alive() {
		t.Fatalf("started process: %+v, %v, not alive", p, err)
	}
	stranger, earlierBoot := p, p
	stranger.Start--
	earlierBoot.Boot = "another"
	for _, other := range []process{{}, stranger, earlierBoot} {
		if other.alive() || len(other.family()) != 0 {
			t.Errorf("%+v: taken for process %d", other, p.PID)
		}
		if err := other.signal(syscall.SIGKILL); err != nil {
			t.Errorf("%+v: %v", other, err)
		}
	}
	if !p.alive() {
		t.Error("a stranger's signal reached the process")
	}
}

func TestProcessStop(t *testing.T) {
	// The shell ignores SIGTERM, so it and its child need SIGKILL.
	cmd := exec.Command("sh", "-c", `trap "" TERM; sleep 60; true`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); len(p.family()) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("the shell has no child")
		}
		time.Sleep(10 * time.Millisecond)
	}
	family := p.family()
	if err := p.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(context.Background(), syscall.SIGTERM, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, member := range family {
		if member.alive() {
			t.Errorf("process %d lives on", member.PID)
		}
	}
}

func TestWait(t *testing.T) {
	calls := 0
	err := wait(context.Background(), time.Minute, func(context.Context) error {
		calls++
		if calls < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || calls != 2 {
		t.Errorf("second call succeeds: %d calls, %v", calls, err)
	}
	cause := errors.New("never")
	err = wait(context.Background(), time.Minute, func(context.Context) error { return permanent{cause} })
	if !errors.Is(err, cause) {
		t.Errorf("permanent error: got %v", err)
	}
	err = wait(context.Background(), time.Millisecond, func(context.Context) error { return cause })
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "not after 1ms") {
		t.Errorf("time is over: got %v", err)
	}
}

func TestMirrorIn(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"fields":        {"Types: deb\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\n", "http://m/debian"},
		"security":      {"Types: deb\nURIs: http://m/sec\nSuites: bookworm-security\n", ""},
		"second":        {"URIs: http://x\nSuites: other\n\nURIs: http://y\nSuites: bookworm\n", "http://y"},
		"line":          {"# c\ndeb http://m/debian bookworm main\n", "http://m/debian"},
		"line, options": {"deb [arch=amd64 signed-by=/k] http://m bookworm main\n", "http://m"},
		"other line":    {"deb http://m cloud-bookworm main\n", ""},
		"empty":         {"", ""},
	} {
		if got := mirrorIn(c.text, "bookworm"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const info = `20 1 0:1 / / rw - ext4 a b
21 20 0:2 / /run/s rw - tmpfs a b
22 20 0:3 / /run/s/a rw - tmpfs a b
23 20 0:3 / /run/s/a/b\040c rw - tmpfs a b
24 20 0:4 / /run/stranger rw - tmpfs a b
`
	got := strings.Join(mountsBelow(info, "/run/s"), "|")
	if want := "/run/s/a/b c|/run/s/a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEnv(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's")
	s := newStack(t, dir)
	env := s.Env()
	out, err := exec.Command("sh", "-c", env+`printf '%s|%s|%s' "$KUBECONFIG" "$KAFKA" "$PATH"`).Output()
	if err != nil {
		t.Fatalf("a shell does not read %s: %v", env, err)
	}
	got := strings.Split(string(out), "|")
	if got[0] != s.Kubeconfig || got[1] != s.Kafka || !strings.HasPrefix(got[2], filepath.Dir(s.KubectlPath)+":") {
		t.Errorf("got %q", got)
	}
}

func TestNewReadsState(t *testing.T) {
	dir := t.TempDir()
	s := newStack(t, dir)
	ports := wantedPorts()
	ports.Broker = 4711
	if err := s.writeState(state{Up: true, Ports: ports}); err != nil {
		t.Fatal(err)
	}
	if got := newStack(t, dir).Broker; got != "tcp://127.0.0.1:4711" {
		t.Errorf("broker %s: not from the state file", got)
	}
	if err := os.WriteFile(s.path("stack.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}); err == nil {
		t.Error("broken state file: no error")
	}
}

func TestRunDir(t *testing.T) {
	t.Setenv("TWINLINE_STACK_DIR", "/from/env")
	for in, want := range map[string]string{"": "/from/env", "/a/../b": "/b"} {
		if got, err := runDir(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"/", "/" + strings.Repeat("x", maxDir)} {
		if _, err := runDir(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestEnsureOurs(t *testing.T) {
	s := newStack(t, filepath.Join(t.TempDir(), "run"))
	if err := s.ensureOurs(); err != nil {
		t.Errorf("no folder: %v", err)
	}
	if err := writeFile(s.path("precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ensureOurs(); err == nil {
		t.Error("a stranger's folder: no error")
	}
	if err := s.writeState(state{}); err != nil {
		t.Fatal(err)
	}
	if err := s.ensureOurs(); err != nil {
		t.Errorf("a stack's folder: %v", err)
	}
	if err := clearDir(s.Dir, stateFile); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.Dir); err != nil || len(left) != 1 || left[0].Name() != stateFile {
		t.Errorf("cleared folder holds %v, %v", left, err)
	}
}

func TestCacheKeepsOnlyCompleteBuilds(t *testing.T) {
	s := newStack(t, t.TempDir())
	built := 0
	a := artifact{name: "a", version: "1", files: []string{"f"}}
	a.build = func(_ context.Context, _ *Stack, dir string) error {
		built++
		if built == 1 {
			return errors.New("broken")
		}
		return os.WriteFile(filepath.Join(dir, "f"), nil, 0o600)
	}
	if err := s.cache.get(t.Context(), s, a); err == nil || s.cache.has(a) {
		t.Errorf("failed build: error %v, kept %t", err, s.cache.has(a))
	}
	for range 2 {
		if err := s.cache.get(t.Context(), s, a); err != nil {
			t.Fatal(err)
		}
	}
	if built != 2 {
		t.Errorf("built %d times, want a failure and a success", built)
	}
}

func TestComponentsHaveLaunch(t *testing.T) {
	s := newStack(t, t.TempDir())
	for _, c := range Components() {
		l, err := s.launch(c)
		if err != nil {
			// Java and the database's folder are on machines with a stack only.
			continue
		}
		if l.ready == nil || l.startWithin <= 0 || l.stopWithin <= 0 || len(l.argv) == 0 {
			t.Errorf("%s: launch lacks a bound or a command: %+v", c, l)
		}
	}
	if _, err := s.launch("nonsense"); err == nil {
		t.Error("unknown component: no error")
	}
}

func newStack(t *testing.T, dir string) *Stack {
	t.Helper()
	s, err := New(Options{Dir: dir, CacheDir: filepath.Join(t.TempDir(), "cache")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Only a process that was told our socket belongs to our pods.
func TestKillPods(t *testing.T) {
	s := newStack(t, t.TempDir())
	other := newStack(t, t.TempDir())
	shim := func(of *Stack) process {
		cmd := exec.Command("sh", "-c", "sleep 60; true", "shim", "-address", of.containerdSocket())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		p, err := identify(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ours, stranger := shim(s), shim(other)
	if err := s.killPods(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ours.alive() {
		t.Error("our shim lives on")
	}
	if !stranger.alive() {
		t.Error("a stranger was killed")
	}
}
