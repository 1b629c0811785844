// Package manifests reads Devices and DeviceModels from a folder of YAML and JSON
// files, in place of MetaServer: for sites without KubeEdge, for the desk and for
// tests. It looks at the folder every second; that works on every file system,
// also with the symbolic links of a ConfigMap.
package manifests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/inventory"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a folder.
const (
	MaxFiles = 1000            // further files, in order of names, are problems
	MaxTotal = declare.MaxSize // bytes of all files together; likewise
	pollTime = time.Second     // a change is seen after one to two of it
	dataLink = "..data"        // the link that a ConfigMap's update swaps (kubelet, atomic_writer)
	maxSwaps = 3               // scans of a folder that is swapped under us
)

// Config says which folder is read and whose devices are wanted.
type Config struct {
	// Dir holds files named *.yaml, *.yml and *.json. Folders in it and names that
	// begin with a dot are left out.
	Dir      string
	Node     string       // Device.spec.nodeName; "" is every node
	Protocol string       // Device.spec.protocol.protocolName, without regard to case
	Log      *slog.Logger // nil: none
}

// Validate reports what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	info, err := os.Stat(c.Dir)
	if err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("manifests: %s is not a folder", c.Dir)
	}
	return nil
}

// Source implements mapper.Source. A file is read when it has not changed for a
// second, so that one that is being written is left in peace; one that cannot be
// read as a whole keeps its last good objects and is a problem.
type Source struct {
	cfg Config
	log *slog.Logger
}

// New returns a Source.
func New(cfg Config) *Source {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{cfg: cfg, log: cfg.Log}
}

// Run implements mapper.Source. A folder that cannot be read keeps the last set
// and is a problem; at the start too, so that it may come later.
func (s *Source) Run(ctx context.Context, set func(devices []twin.Device, problems []twin.Problem)) error {
	f := &folder{dir: s.cfg.Dir, files: map[string]*file{}}
	of := inventory.Of{Node: s.cfg.Node, Protocol: s.cfg.Protocol}
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for first := true; ; first = false {
		if f.poll(first) || first {
			devices, problems := of.Devices(f.parts())
			s.log.Info("devices read", "folder", s.cfg.Dir, "files", len(f.files), "devices", len(devices), "problems", len(problems))
			set(devices, problems)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// folder is what is known of the folder.
type folder struct {
	dir     string
	files   map[string]*file
	data    string // where dataLink pointed to; a swapped folder is whole, and its files need not settle
	problem string // why the folder as a whole is not as it should be
}

// file is what is known of one file.
type file struct {
	seen   fs.FileInfo    // as the last poll found it
	loaded fs.FileInfo    // as it was when it was read; nil: it was not
	absent bool           // the last poll did not find it
	part   inventory.Part // what of it holds
}

// poll looks at the folder and returns whether what holds has changed. The first
// one reads every file at once.
func (f *folder) poll(first bool) bool {
	changed := false
	for range maxSwaps {
		before, _ := os.Readlink(filepath.Join(f.dir, dataLink)) // "" where there is none
		some, err := f.scan(first || before != f.data)
		changed = f.note(err) || some || changed
		f.data, _ = os.Readlink(filepath.Join(f.dir, dataLink))
		if f.data == before {
			break
		}
	}
	return changed
}

// note keeps the problem of the whole folder and returns whether it is another one.
func (f *folder) note(err error) bool {
	was := f.problem
	f.problem = ""
	if err != nil {
		f.problem = err.Error()
	}
	return f.problem != was
}

// scan looks at each file. Its error is a problem of the folder as a whole.
func (f *folder) scan(atOnce bool) (changed bool, err error) {
	infos, err := f.list()
	if infos == nil {
		return false, err // what was read last holds
	}
	for name, known := range f.files {
		switch {
		case infos[name] != nil:
			known.absent = false
		case known.absent || atOnce: // an editor that replaces a file may remove it first
			delete(f.files, name)
			changed = true
		default:
			known.absent = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(infos)) {
		info := infos[name]
		known := f.files[name]
		if known == nil {
			known = &file{}
			f.files[name] = known
		}
		settled := same(known.seen, info)
		known.seen = info
		if (atOnce || settled) && !same(known.loaded, info) && known.load(filepath.Join(f.dir, name), name, info) {
			changed = true
		}
	}
	return changed, err
}

// list returns the files to read. nil means that the folder cannot be read; with
// files, the error says what is beyond the bounds.
func (f *folder) list() (map[string]fs.FileInfo, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	infos := map[string]fs.FileInfo{}
	var total int64
	for _, e := range entries { // in order of names
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))) {
			continue
		}
		info, err := os.Stat(filepath.Join(f.dir, name)) // of what a link points to
		if err != nil || !info.Mode().IsRegular() {
			continue // gone since, or a folder
		}
		if len(infos) == MaxFiles {
			return infos, fmt.Errorf("more than %d files; those after %s are not read", MaxFiles, name)
		}
		if total += info.Size(); total > MaxTotal {
			return infos, fmt.Errorf("more than %d bytes; %s and those after it are not read", int64(MaxTotal), name)
		}
		infos[name] = info
	}
	return infos, nil
}

// same reports whether a file has not changed between two looks.
func same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// load reads the file and returns whether what holds has changed. A file that
// changes while it is read is left for the next poll.
func (f *file) load(path, name string, info fs.FileInfo) bool {
	data, err := read(path, info)
	if errors.Is(err, errMoving) {
		return false
	}
	if err != nil {
		problem := twin.Problem{Object: name, What: err.Error(), Remedy: "make it readable; until then its last good form holds"}
		said := slices.Equal(f.part.Problems, []twin.Problem{problem})
		f.part.Problems = []twin.Problem{problem}
		return !said
	}
	f.loaded = info
	objects, problems := declare.Decode(name, data)
	if broken(name, problems) && len(f.part.Objects.Devices)+len(f.part.Objects.Models) > 0 {
		f.part.Problems = append(problems, twin.Problem{Object: name, What: "the file cannot be read as a whole", Remedy: "mend it; until then its last good form holds"})
		return true
	}
	f.part = inventory.Part{Objects: objects, Problems: problems}
	return true
}

// broken reports whether a problem is one of the file, and not of an object in it.
func broken(name string, problems []twin.Problem) bool {
	return slices.ContainsFunc(problems, func(p twin.Problem) bool { return strings.HasPrefix(p.Object, name) })
}

var errMoving = errors.New("changes while it is read")

func read(path string, info fs.FileInfo) ([]byte, error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	data, err := io.ReadAll(io.LimitReader(opened, MaxTotal+1))
	if err != nil {
		return nil, err
	}
	after, err := opened.Stat()
	if err != nil {
		return nil, err
	}
	if !same(info, after) || int64(len(data)) != after.Size() {
		return nil, errMoving
	}
	return data, nil
}

// parts returns what holds, in order of names.
func (f *folder) parts() []inventory.Part {
	var parts []inventory.Part
	if f.problem != "" {
		parts = append(parts, inventory.Part{Problems: []twin.Problem{{
			Object: "folder " + f.dir, What: f.problem, Remedy: "mend it; what was read last holds",
		}}})
	}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		parts = append(parts, f.files[name].part)
	}
	return parts
}
