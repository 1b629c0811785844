package stack

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// ImageUser is the user and group an image of ours names. The container runtime
// takes over the user only: without runAsGroup a pod gets group 0.
const ImageUser = "65532:65532"

// pauseSource does nothing until it is told to end.
const pauseSource = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
`

// pauseArtifact is the program of the pause image.
func pauseArtifact() artifact {
	return artifact{
		name: "pause", version: "1", files: []string{"pause"},
		build: func(ctx context.Context, _ *Stack, dir string) error {
			work, err := os.MkdirTemp("", "twinline-pause-")
			if err != nil {
				return fmt.Errorf("make build folder: %w", err)
			}
			defer func() { _ = os.RemoveAll(work) }()
			if err := writeFile(filepath.Join(work, "main.go"), []byte(pauseSource), 0o644); err != nil {
				return err
			}
			return BuildStatic(ctx, work, "main.go", filepath.Join(dir, "pause"))
		},
	}
}

// BuildStatic builds a Go program without C into out. dir is a folder of its
// module; pkg is relative to it.
func BuildStatic(ctx context.Context, dir, pkg, out string) error {
	_, err := command{
		argv: []string{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg},
		env:  []string{"CGO_ENABLED=0", "GOWORK=off"},
		dir:  dir,
	}.run(ctx)
	return err
}

// Image makes an image of one static binary and gives it to the edge node's
// containerd. ref is its full name, such as docker.io/twinline/uplink:test. The
// binary is /app and the entrypoint; it runs as ImageUser and has no other
// files. Pods must use imagePullPolicy Never. An image of the same name is
// replaced; running pods keep the old one.
func (s *Stack) Image(ctx context.Context, binary, ref string) error {
	img, err := scratchImage(binary)
	if err != nil {
		return fmt.Errorf("make image %s: %w", ref, err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("make image %s: %w", ref, err)
	}
	f, err := os.CreateTemp("", "twinline-image-*.tar")
	if err != nil {
		return fmt.Errorf("make image %s: %w", ref, err)
	}
	defer func() { _ = os.Remove(f.Name()); _ = f.Close() }()
	if err := tarball.Write(tag, img, f); err != nil {
		return fmt.Errorf("write image %s: %w", ref, err)
	}
	if _, err := s.ctr(ctx, "images", "import", f.Name()); err != nil {
		return fmt.Errorf("import image %s: %w", ref, err)
	}
	return nil
}

// scratchImage returns an image with the binary as its only file.
func scratchImage(binary string) (v1.Image, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	if err := tw.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(data))}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(data); err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer.Bytes())), nil
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{Entrypoint: []string{"/app"}, User: ImageUser}
	return mutate.ConfigFile(img, config)
}
