package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of what is read.
const (
	maxManifest  = 4 << 20 // bytes of one file
	maxManifests = 1000    // files in the folder
	maxStateFile = 16 << 20
)

// folderMark tells whether a folder has changed.
type folderMark map[string]fileMark

type fileMark struct {
	size int64
	time time.Time
}

// markFolder lists the YAML files of a folder, not of folders in it.
func markFolder(dir string) (folderMark, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	mark := folderMark{}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || (ext != ".yaml" && ext != ".yml") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if info.Size() > maxManifest {
			return nil, fmt.Errorf("read manifests: %s has %d bytes, at most %d are allowed", e.Name(), info.Size(), maxManifest)
		}
		mark[filepath.Join(dir, e.Name())] = fileMark{info.Size(), info.ModTime()}
	}
	if len(mark) > maxManifests {
		return nil, fmt.Errorf("read manifests: %d files in %s, at most %d are allowed", len(mark), dir, maxManifests)
	}
	return mark, nil
}

// reload reads the folder if it has changed. On an error everything stays as it was,
// and a file that is wrong is not looked at again until it changes.
func (d *Desk) reload() error {
	mark, err := markFolder(d.config.Manifests)
	if err != nil {
		return err
	}
	if d.mark != nil && maps.Equal(mark, d.mark) {
		return nil
	}
	d.mark = mark
	var all declare.Objects
	for _, file := range slices.Sorted(maps.Keys(mark)) {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read manifests: %w", err)
		}
		objects, problems := declare.Decode(filepath.Base(file), data)
		for _, p := range problems {
			d.deps.Log.Warn("a manifest is wrong", "problem", p.Error())
		}
		all.Add(objects)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apply(all)
	return nil
}

// apply makes the cloud hold these objects, and no others. Of two of one name the
// first holds. d.mu is held.
func (d *Desk) apply(all declare.Objects) {
	kept := map[key]bool{}
	d.cloud.models = all.Models
	for i := range all.Models {
		m := all.Models[i].Object
		k := key{modelKind, idOf(&m)}
		if !kept[k] {
			d.cloud.put(k, &m)
		}
		kept[k] = true
	}
	clear(d.cloud.devices)
	for _, device := range all.Devices {
		id := idOf(&device.Object)
		k := key{deviceKind, id}
		if kept[k] {
			continue
		}
		kept[k], kept[key{statusKind, id}] = true, true
		d.cloud.devices[id] = device
		d.cloud.declared[id] = desiredOf(&device.Object)
		o := copyDevice(&device.Object)
		d.restoreDesired(id, o)
		d.cloud.put(k, o)
	}
	for k := range d.cloud.objects {
		if !kept[k] {
			d.cloud.put(k, nil)
		}
	}
	d.deliver()
}

func idOf(o metav1.Object) twin.DeviceID {
	return twin.DeviceID{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func desiredOf(o *v1beta1.Device) map[string]string {
	desired := map[string]string{}
	for i := range o.Spec.Properties {
		desired[o.Spec.Properties[i].Name] = o.Spec.Properties[i].Desired.Value
	}
	return desired
}

// savedState is the state file.
type savedState struct {
	Desired map[twin.DeviceID]map[string]savedDesired `json:"desired"`
}

// savedDesired is a desired value that was set, and what the manifest said then: when
// the manifest is edited to say something else, the manifest holds.
type savedDesired struct {
	Value    string `json:"value"`
	Time     int64  `json:"time"` // ms since 1970
	Manifest string `json:"manifest"`
}

func (d *Desk) loadState() error {
	d.cloud.state.Desired = map[twin.DeviceID]map[string]savedDesired{}
	if d.config.StateFile == "" {
		return nil
	}
	data, err := os.ReadFile(d.config.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(data) > maxStateFile {
		err = fmt.Errorf("%d bytes, at most %d are allowed", len(data), maxStateFile)
	}
	if err == nil {
		err = json.Unmarshal(data, &d.cloud.state)
	}
	if err != nil {
		return fmt.Errorf("read state file %s: %w; delete it to forget the desired values that were set", d.config.StateFile, err)
	}
	if d.cloud.state.Desired == nil {
		d.cloud.state.Desired = map[twin.DeviceID]map[string]savedDesired{}
	}
	return nil
}

// restoreDesired puts the saved desired values into a Device read from a manifest.
func (d *Desk) restoreDesired(id twin.DeviceID, o *v1beta1.Device) {
	for name, saved := range d.cloud.state.Desired[id] {
		if saved.Manifest != d.cloud.declared[id][name] {
			continue
		}
		value := &saved.Value
		if saved.Value == "" {
			value = nil
		}
		setDesired(o, map[string]*string{name: value}, time.UnixMilli(saved.Time))
	}
}

// saveDesired writes the state file with the new values. d.mu is held.
func (d *Desk) saveDesired(id twin.DeviceID, desired map[string]*string) error {
	next := savedState{Desired: maps.Clone(d.cloud.state.Desired)}
	mine := maps.Clone(next.Desired[id])
	if mine == nil {
		mine = map[string]savedDesired{}
	}
	for name, value := range desired {
		saved := savedDesired{Time: d.now().UnixMilli(), Manifest: d.cloud.declared[id][name]}
		if value != nil {
			saved.Value = *value
		}
		mine[name] = saved
	}
	next.Desired[id] = mine
	if d.config.StateFile != "" {
		data, err := json.MarshalIndent(next, "", "  ")
		if err == nil {
			err = replaceFile(d.config.StateFile, data)
		}
		if err != nil {
			return fmt.Errorf("write state file: %w", err)
		}
	}
	d.cloud.state = next
	return nil
}

// replaceFile writes a file so that after a crash either the old or the new
// content is there.
func replaceFile(name string, data []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+strings.TrimPrefix(filepath.Base(name), ".")+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when all went well: the name is taken
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
