// Package stack runs the real components Twinline works with on one machine:
// a Kubernetes control plane, CloudCore, EdgeCore with containerd pods,
// Mosquitto, Kafka and TimescaleDB.
//
// A Stack lives in one run folder. Any process that opens the same folder sees
// the same stack, so a test may use one that `stack up` started before. The
// package needs root, because it starts containers and cuts links.
//
// See DESIGN.md one folder up for the layout, the ports and the failure modes.
package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// DefaultDir is the run folder when neither Options.Dir nor the environment
// variable TWINLINE_STACK_DIR names one.
const DefaultDir = "/var/tmp/twinline-e2e"

// maxDir keeps the containerd socket below the kernel's limit of 107 bytes.
const maxDir = 64

// Options say where a stack lives and how it talks. The zero value is ready.
type Options struct {
	// Dir is the run folder; empty means $TWINLINE_STACK_DIR or DefaultDir.
	Dir string
	// CacheDir holds what is built once; empty means twinline below the user's
	// cache folder.
	CacheDir string
	// Out receives progress lines; nil means no output.
	Out io.Writer
	// DatabaseOnly leaves everything but TimescaleDB out: what integration tests
	// need. The other components' addresses are then of no use.
	DatabaseOnly bool
	// MessageQPS is EdgeHub's uplink budget in messages per second; zero means
	// KubeEdge's own default of 30. It is read by Up only.
	MessageQPS int
	// Heartbeat is EdgeHub's keepalive in seconds; zero means 5. EdgeHub waits
	// twice as long before it dials again after a broken link, so KubeEdge's
	// default of 15 makes every link test half a minute longer.
	Heartbeat int
}

// Stack is a handle on one run folder. Its exported fields are valid once Up has
// returned, or after New when the stack runs already. Methods are safe for use
// by one goroutine at a time; processes sharing a folder are kept apart by a
// lock on it during Up and Down.
type Stack struct {
	// Dir is the run folder.
	Dir string
	// Node is the name of the edge node.
	Node string
	// Kubeconfig is the path of a kubeconfig with all rights.
	Kubeconfig string
	// APIServer is the https address of kube-apiserver.
	APIServer string
	// KubectlPath is the built kubectl.
	KubectlPath string
	// Broker is the MQTT broker of the edge node, as tcp://host:port.
	Broker string
	// Kafka is the bootstrap address, as host:port.
	Kafka string
	// Database is the DSN of the database "twinline", owned by its user.
	Database string
	// DatabaseAdmin is the DSN of the same database for the superuser.
	DatabaseAdmin string
	// MetaServer is EdgeCore's local API, as http://host:port.
	MetaServer string
	// ServiceBus is EdgeCore's HTTP door to the cloud, as http://host:port.
	// EdgeCore listens there only while a Rule with source servicebus has
	// reached the node.
	ServiceBus string
	// Router is CloudCore's REST door to the edge, as http://host:port.
	Router string
	// Ports are all ports in use.
	Ports Ports

	id       string
	opts     Options
	cache    cache
	progress *progress
}

// New returns a handle on the run folder without starting anything. It fails
// only when the folder's name or its state file is unusable.
func New(opts Options) (*Stack, error) {
	dir, err := runDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	cacheDir, err := cacheRoot(opts.CacheDir)
	if err != nil {
		return nil, err
	}
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.MessageQPS == 0 {
		opts.MessageQPS = 30
	}
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 5
	}
	out := newProgress(opts.Out)
	s := &Stack{
		Dir:      dir,
		Node:     "edge-1",
		id:       identity(dir),
		opts:     opts,
		cache:    cache{root: cacheDir, progress: out},
		progress: out,
	}
	st, err := s.readState()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	s.setPorts(st.Ports)
	return s, nil
}

// runDir resolves the run folder to an absolute path that is short enough.
func runDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("TWINLINE_STACK_DIR")
	}
	if dir == "" {
		dir = DefaultDir
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve run folder %s: %w", dir, err)
	}
	if len(dir) > maxDir {
		return "", fmt.Errorf("run folder %s: longer than %d bytes, so sockets below it cannot be bound", dir, maxDir)
	}
	if filepath.Dir(dir) == dir {
		return "", fmt.Errorf("run folder %s: Up erases its contents, so it cannot be the root", dir)
	}
	return dir, nil
}

// identity names what a stack makes outside its folder: cgroups, iptables
// chains and the bridge. Two folders never share it.
func identity(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "twinline-" + hex.EncodeToString(sum[:3])
}

// setPorts fills the addresses that follow from the ports.
func (s *Stack) setPorts(p Ports) {
	s.Ports = p
	s.Kubeconfig = s.path("kube", "admin.kubeconfig")
	s.KubectlPath = filepath.Join(s.cache.dir(kubernetesArtifact()), "kubectl")
	s.APIServer = fmt.Sprintf("https://127.0.0.1:%d", p.APIServer)
	s.Broker = fmt.Sprintf("tcp://127.0.0.1:%d", p.Broker)
	s.Kafka = fmt.Sprintf("127.0.0.1:%d", p.Kafka)
	s.Database = s.dsn("twinline", "twinline")
	s.DatabaseAdmin = s.dsn("postgres", "twinline")
	s.MetaServer = fmt.Sprintf("http://127.0.0.1:%d", p.MetaServer)
	s.ServiceBus = fmt.Sprintf("http://127.0.0.1:%d", p.ServiceBus)
	s.Router = fmt.Sprintf("http://127.0.0.1:%d", p.Router)
}

// path joins elements below the run folder.
func (s *Stack) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Build installs the Debian packages and fills the cache. It is quick when both
// are there already.
func (s *Stack) Build(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("build the stack: needs root")
	}
	if err := s.installPackages(ctx); err != nil {
		return err
	}
	return s.buildArtifacts(ctx)
}

// Log returns the path of the component's log file.
func (s *Stack) Log(c Component) string { return s.path("log", string(c)+".log") }
