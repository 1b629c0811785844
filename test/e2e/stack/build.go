package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Versions of what is built or fetched.
const (
	KubernetesVersion = "v1.33.13"
	KubeEdgeVersion   = "v1.23.1"
	KafkaVersion      = "4.1.0"

	// kubeEdgeLibraries is the version of KubeEdge's api and beehive modules.
	kubeEdgeLibraries = "v1.23.0"
	// kafkaLogger is the version of the log library beside Kafka's jars.
	kafkaLogger = "1.7.36"
	// databaseSuite is the Debian suite TimescaleDB is taken from.
	databaseSuite = "trixie"
	// databaseMajor is the PostgreSQL version of that suite.
	databaseMajor = "17"
)

// program is one binary of a Go module.
type program struct{ name, pkg string }

// goBuild is a set of programs built from one published module.
type goBuild struct {
	module, version string
	programs        []program
	// mod turns the module's go.mod into one that builds it from outside.
	mod func(original string) (string, error)
	// versionPackage receives the version at link time.
	versionPackage string
	cgo            string
}

// buildArtifacts fills the cache, one heavy build at a time.
func (s *Stack) buildArtifacts(ctx context.Context) error {
	all := []artifact{
		kubernetesArtifact(), kubeEdgeArtifact(), kafkaArtifact(), databaseArtifact(), pauseArtifact(),
	}
	if s.opts.DatabaseOnly {
		all = []artifact{databaseArtifact()}
	}
	for _, a := range all {
		if err := s.cache.get(ctx, s, a); err != nil {
			return err
		}
	}
	return nil
}

func kubernetesArtifact() artifact {
	names := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}
	b := goBuild{
		module: "k8s.io/kubernetes", version: KubernetesVersion,
		mod:            func(m string) (string, error) { return kubernetesMod(m, KubernetesVersion) },
		versionPackage: "k8s.io/component-base/version",
		cgo:            "0",
	}
	for _, n := range names {
		b.programs = append(b.programs, program{name: n, pkg: "k8s.io/kubernetes/cmd/" + n})
	}
	return artifact{
		name: "kubernetes", version: KubernetesVersion, files: names,
		build: func(ctx context.Context, s *Stack, dir string) error {
			_, err := b.run(ctx, s, dir)
			return err
		},
	}
}

func kubeEdgeArtifact() artifact {
	const module = "github.com/kubeedge/kubeedge"
	b := goBuild{
		module: module, version: KubeEdgeVersion,
		programs: []program{
			{name: "cloudcore", pkg: module + "/cloud/cmd/cloudcore"},
			{name: "edgecore", pkg: module + "/edge/cmd/edgecore"},
		},
		mod: func(m string) (string, error) {
			return kubeEdgeMod(m, KubeEdgeVersion, kubeEdgeLibraries)
		},
		versionPackage: module + "/pkg/version",
		cgo:            "1", // EdgeCore's sqlite
	}
	return artifact{
		name: "kubeedge", version: KubeEdgeVersion,
		files: []string{"cloudcore", "edgecore", "crds", "clusterrole.yaml"},
		build: func(ctx context.Context, s *Stack, dir string) error {
			source, err := b.run(ctx, s, dir)
			if err != nil {
				return err
			}
			return copyKubeEdgeManifests(source, dir)
		},
	}
}

// copyKubeEdgeManifests takes CloudCore's role and all CRDs, flat, out of the
// module.
func copyKubeEdgeManifests(source, dir string) error {
	crds, err := filepath.Glob(filepath.Join(source, "build", "crds", "*", "*.yaml"))
	if err != nil || len(crds) == 0 {
		return errors.Join(fmt.Errorf("find CRDs below %s: %d files", source, len(crds)), err)
	}
	copies := map[string]string{
		filepath.Join(source, "build", "cloud", "03-clusterrole.yaml"): filepath.Join(dir, "clusterrole.yaml"),
	}
	for _, crd := range crds {
		copies[crd] = filepath.Join(dir, "crds", filepath.Base(crd))
	}
	for from, to := range copies {
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("copy manifest: %w", err)
		}
		if err := writeFile(to, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// run builds the programs into dir and returns the module's source folder.
func (b goBuild) run(ctx context.Context, s *Stack, dir string) (string, error) {
	work, err := os.MkdirTemp("", "twinline-build-")
	if err != nil {
		return "", fmt.Errorf("make build folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	source, err := b.prepare(ctx, work)
	if err != nil {
		return "", err
	}
	for _, p := range b.programs {
		what := fmt.Sprintf("building %s %s", p.name, b.version)
		err := s.progress.long(what, func() error { return b.compile(ctx, work, dir, p) })
		if err != nil {
			return "", err
		}
	}
	return source, nil
}

// prepare writes the module the programs are built in.
func (b goBuild) prepare(ctx context.Context, work string) (string, error) {
	source, err := moduleSource(ctx, work, b.module, b.version)
	if err != nil {
		return "", err
	}
	original, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read go.mod of %s: %w", b.module, err)
	}
	mod, err := b.mod(string(original))
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("read go.sum of %s: %w", b.module, err)
	}
	packages := make([]string, 0, len(b.programs))
	for _, p := range b.programs {
		packages = append(packages, p.pkg)
	}
	for name, data := range map[string]string{
		"go.mod": mod, "go.sum": string(sum), "tools.go": toolsFile(packages),
	} {
		if err := writeFile(filepath.Join(work, name), []byte(data), 0o644); err != nil {
			return "", err
		}
	}
	return source, nil
}

func (b goBuild) compile(ctx context.Context, work, dir string, p program) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	c := command{
		argv: []string{
			"nice", "-n", "10", "go", "build", "-trimpath", "-buildvcs=false",
			"-ldflags", versionFlags(b.versionPackage, b.version),
			"-o", filepath.Join(dir, p.name), p.pkg,
		},
		env: []string{"GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=" + b.cgo},
		dir: work,
	}
	_, err := c.run(ctx)
	return err
}

// moduleSource downloads a module and returns its folder in the module cache.
// The checksum database verifies it; workdir must be outside any module.
func moduleSource(ctx context.Context, workdir, module, version string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	out, err := command{
		argv: []string{"go", "mod", "download", "-json", module + "@" + version},
		env:  []string{"GOWORK=off", "GOFLAGS=-mod=mod"},
		dir:  workdir,
	}.run(ctx)
	if err != nil {
		return "", err
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return "", fmt.Errorf("parse answer of go mod download %s: %w", module, err)
	}
	return answer.Dir, nil
}
