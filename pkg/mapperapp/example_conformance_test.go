package mapperapp_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mappertest"
	"github.com/twinline/twinline/pkg/twin"
)

// TestTheExampleConforms is all it takes to run the suite on a driver.
func TestTheExampleConforms(t *testing.T) {
	root := t.TempDir()
	var count atomic.Int64
	path := func(d twin.Device) string { return d.Config["folder"].(string) }
	change := func(t *testing.T, d twin.Device, p string, v twin.Value) {
		require.NoError(t, os.WriteFile(filepath.Join(path(d), p), []byte(v.Text()+"\n"), 0o600))
	}
	device := func(t *testing.T) twin.Device {
		name := fmt.Sprint("d", count.Add(1))
		d := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: name}, Protocol: "file", Config: map[string]any{"folder": filepath.Join(root, name)}}
		require.NoError(t, os.Mkdir(path(d), 0o700))
		for _, typ := range []twin.Type{twin.TypeInt, twin.TypeDouble, twin.TypeBoolean} {
			p := twin.Property{Name: strings.ToLower(string(typ)), Type: typ, Writable: typ != twin.TypeInt, CollectCycle: time.Second}
			p.Visitor = map[string]any{"file": p.Name}
			d.Properties = append(d.Properties, p)
			v, _ := mappertest.Values(p)
			change(t, d, p.Name, v)
		}
		return d
	}
	mappertest.Suite{
		New:    func(*testing.T) mapper.Driver { return files{} },
		Device: device,
		Change: change,
		Break:  func(t *testing.T, d twin.Device) { require.NoError(t, os.Rename(path(d), path(d)+".away")) },
		Mend:   func(t *testing.T, d twin.Device) { require.NoError(t, os.Rename(path(d)+".away", path(d))) },
		Mistakes: []mappertest.Mistake{
			{Name: "no folder", Whole: true, Problems: 1, Device: func(t *testing.T) twin.Device {
				d := device(t)
				d.Config = nil
				return d
			}},
			{Name: "a file elsewhere", Refused: []string{"double"}, Problems: 1, Device: func(t *testing.T) twin.Device {
				d := device(t)
				d.Properties[1].Visitor = map[string]any{"file": "../secret"}
				return d
			}},
		},
	}.Run(t)
}
