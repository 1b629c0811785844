package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/twinline/twinline/examples"
)

// putExamples fills Manifests and Rules with copies of the example where the
// user named no folder, so that they can be edited. Files that are there stay.
func (c *config) putExamples() error {
	for _, e := range []struct {
		folder *string
		name   string
		from   string
	}{{&c.Manifests, "manifests", "demo"}, {&c.Rules, "rules", "demo/rules"}} {
		if *e.folder != "" {
			continue
		}
		*e.folder = c.path(e.name)
		if err := putExample(e.from, *e.folder); err != nil {
			return fmt.Errorf("put the example into %s: %w", *e.folder, err)
		}
	}
	return nil
}

func putExample(from, to string) error {
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	entries, err := fs.ReadDir(examples.Files(), from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		data, err := fs.ReadFile(examples.Files(), from+"/"+e.Name())
		if err != nil {
			return err
		}
		name := filepath.Join(to, e.Name())
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
