package manifests_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/manifests"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

var _ mapper.Source = (*manifests.Source)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const model = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: boiler, namespace: plant}
spec:
  protocol: modbus
  properties:
  - {name: setpoint, type: INT, accessMode: ReadWrite}
---
`

func device(name, node string) string {
	return fmt.Sprintf(`
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: %s, namespace: plant}
spec:
  nodeName: %s
  deviceModelRef: {name: boiler}
  protocol: {protocolName: modbus, configData: {url: "tcp://10.0.0.1:502"}}
  properties:
  - {name: setpoint, reportToCloud: true, visitors: {protocolName: modbus, configData: {register: holding, address: 1}}}
---
`, name, node)
}

type bench struct {
	t   *testing.T
	dir string

	mu       sync.Mutex
	calls    int
	devices  []string
	problems []twin.Problem
}

func (b *bench) set(devices []twin.Device, problems []twin.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	b.devices, b.problems = nil, problems
	for _, d := range devices {
		b.devices = append(b.devices, d.ID.Name)
	}
	slices.Sort(b.devices)
}

func (b *bench) write(name, text string) {
	require.NoError(b.t, os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644))
}

// want lets the Source look and checks what it gives.
func (b *bench) want(devices ...string) {
	b.t.Helper()
	time.Sleep(3 * time.Second) // of the bubble
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(b.t, devices, b.devices)
}

func (b *bench) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s []string
	for _, p := range b.problems {
		s = append(s, p.Error())
	}
	return strings.Join(s, "\n")
}

// run runs a Source on a folder, which prepare fills, in a bubble.
func run(t *testing.T, node string, prepare, test func(b *bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, dir: dir}
		prepare(b)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- manifests.New(manifests.Config{Dir: dir, Node: node, Protocol: "modbus"}).Run(ctx, b.set)
		}()
		synctest.Wait()
		test(b)
		cancel()
		require.NoError(t, <-done)
	})
}

func plant(b *bench) {
	b.write("model.yaml", model)
	b.write("a.yaml", device("a", "n1"))
}

func TestTheFolderIsReadAtOnceAndOnce(t *testing.T) {
	run(t, "n1", func(b *bench) {
		plant(b)
		b.write("b.yml", device("b", "n2"))
		b.write("c.json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"c"}}`)
		b.write(".hidden.yaml", device("h", "n1"))
		b.write("readme.txt", "not a manifest")
		require.NoError(b.t, os.Mkdir(filepath.Join(b.dir, "folder.yaml"), 0o755))
	}, func(b *bench) {
		require.Equal(t, []string{"a"}, b.devices, "without waiting")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 1, b.calls)
		require.Empty(t, b.said())
	})
}

func TestAllNodes(t *testing.T) {
	run(t, "", func(b *bench) { b.write("all.yaml", model+device("a", "n1")+device("b", "n2")) }, func(b *bench) { b.want("a", "b") })
}

func TestChangesAreSeen(t *testing.T) {
	run(t, "n1", plant, func(b *bench) {
		b.write("b.yaml", device("b", "n1"))
		b.want("a", "b")
		b.write("a.yaml", device("x", "n1"))
		b.want("b", "x")
		require.NoError(t, os.Remove(filepath.Join(b.dir, "b.yaml")))
		b.want("x")
	})
}

// A file that is being written is left in peace.
func TestAFileIsReadWhenItIsWhole(t *testing.T) {
	run(t, "n1", plant, func(b *bench) {
		b.write("a.yaml", device("a", "n1")+device("b", "n1"))
		b.want("a", "b")
		text := device("a", "n1") + device("b", "n1") + device("c", "n1")
		for end := 1; end < len(text); end += 97 {
			b.write("a.yaml", text[:end])
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			require.Equal(t, []string{"a", "b"}, b.devices, "at %d bytes", end)
		}
		b.write("a.yaml", text)
		b.want("a", "b", "c")
	})
}

func TestABrokenFileKeepsItsLastGoodForm(t *testing.T) {
	run(t, "n1", plant, func(b *bench) {
		b.write("b.yaml", device("b", "n1"))
		b.want("a", "b")
		b.write("a.yaml", "kind: [")
		b.want("a", "b")
		require.Contains(t, b.said(), "a.yaml")
		require.Contains(t, b.said(), "last good form")
		b.write("a.yaml", device("a2", "n1"))
		b.want("a2", "b")
		require.Empty(t, b.said())
	})
}

// A mistake in an object is one of that object alone.
func TestAMistakeDoesNotKeepOthersBack(t *testing.T) {
	run(t, "n1", plant, func(b *bench) {
		b.write("a.yaml", strings.Replace(device("a", "n1"), "nodeName", "colour: red\n  nodeName", 1)+device("b", "n1"))
		b.want("b")
		require.Contains(t, b.said(), "Device plant/a")
	})
}

func TestAnEditorMayRemoveTheFileForAMoment(t *testing.T) {
	run(t, "n1", plant, func(b *bench) {
		time.Sleep(10*time.Second + 900*time.Millisecond)
		path := filepath.Join(b.dir, "a.yaml")
		require.NoError(t, os.Remove(path))
		time.Sleep(200 * time.Millisecond) // a poll sees it missing
		synctest.Wait()
		b.write("a.yaml", device("a", "n1"))
		b.want("a")
		require.LessOrEqual(t, b.calls, 2, "and it was never given without a")
	})
}

// As the kubelet updates a ConfigMap: files are links through ..data, which is replaced by a rename.
func TestAConfigMapIsSwappedAsAWhole(t *testing.T) {
	version := func(b *bench, name string, files map[string]string) {
		require.NoError(b.t, os.Mkdir(filepath.Join(b.dir, name), 0o755))
		for file, text := range files {
			b.write(filepath.Join(name, file), text)
		}
		tmp := filepath.Join(b.dir, "..data_tmp")
		require.NoError(b.t, os.Symlink(name, tmp))
		require.NoError(b.t, os.Rename(tmp, filepath.Join(b.dir, "..data")))
	}
	run(t, "n1", func(b *bench) {
		version(b, "..1", map[string]string{"model.yaml": model, "d.yaml": device("a", "n1")})
		for _, file := range []string{"model.yaml", "d.yaml"} {
			require.NoError(b.t, os.Symlink(filepath.Join("..data", file), filepath.Join(b.dir, file)))
		}
	}, func(b *bench) {
		require.Equal(t, []string{"a"}, b.devices)
		version(b, "..2", map[string]string{"model.yaml": model, "d.yaml": device("b", "n1")})
		b.want("b")
		require.Equal(t, 2, b.calls)
	})
}

func TestAFolderThatGoesAwayKeepsTheLastSet(t *testing.T) {
	run(t, "n1", plant, func(b *bench) {
		moved := b.dir + "-moved"
		require.NoError(t, os.Rename(b.dir, moved))
		b.want("a")
		require.Contains(t, b.said(), "folder")
		require.NoError(t, os.Rename(moved, b.dir))
		b.want("a")
		require.Empty(t, b.said())
	})
}

func TestAFolderMayComeLater(t *testing.T) {
	run(t, "n1", func(b *bench) { require.NoError(b.t, os.Remove(b.dir)) }, func(b *bench) {
		require.Equal(t, 1, b.calls, "nothing is a set too")
		require.Contains(t, b.said(), "folder")
		require.NoError(t, os.Mkdir(b.dir, 0o755))
		plant(b)
		b.want("a")
	})
}

func TestBounds(t *testing.T) {
	run(t, "n1", func(b *bench) {
		for i := range manifests.MaxFiles {
			b.write(fmt.Sprintf("f%04d.yaml", i), "")
		}
		b.write("a.yaml", model+device("a", "n1"))
		b.write("z.yaml", device("z", "n1"))
	}, func(b *bench) {
		require.Equal(t, []string{"a"}, b.devices)
		require.Contains(t, b.said(), "more than 1000 files")
	})
	run(t, "n1", func(b *bench) {
		b.write("a.yaml", model+device("a", "n1"))
		b.write("b.yaml", "#"+strings.Repeat("x", manifests.MaxTotal))
		b.write("c.yaml", device("c", "n1"))
	}, func(b *bench) {
		require.Equal(t, []string{"a"}, b.devices)
		require.Contains(t, b.said(), "bytes")
	})
}

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, manifests.Config{Dir: dir}.Validate())
	require.Error(t, manifests.Config{Dir: filepath.Join(dir, "none")}.Validate())
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, manifests.Config{Dir: file}.Validate())
}
