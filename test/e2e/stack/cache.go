package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// artifact is something built once and kept in the cache.
type artifact struct {
	// name and version together name its folder.
	name, version string
	// files are paths below its folder; all present means it is built.
	files []string
	// build fills dir. It is called with the cache's lock held, so no two heavy
	// builds of one user run at the same time.
	build func(ctx context.Context, s *Stack, dir string) error
}

// cache keeps artifacts below one folder.
type cache struct {
	root     string
	progress *progress
}

// cacheRoot resolves the cache folder.
func cacheRoot(dir string) (string, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("resolve cache folder %s: %w", dir, err)
		}
		return abs, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(user, "twinline"), nil
}

func (c cache) dir(a artifact) string {
	return filepath.Join(c.root, a.name+"-"+a.version)
}

// lock keeps other processes from building and installing.
func (c cache) lock(ctx context.Context) (func(), error) {
	return lockFile(ctx, filepath.Join(c.root, "lock"), func() {
		c.progress.say("waiting for another build")
	})
}

// has reports whether every file of the artifact is there.
func (c cache) has(a artifact) bool {
	for _, f := range a.files {
		if _, err := os.Stat(filepath.Join(c.dir(a), f)); err != nil {
			return false
		}
	}
	return true
}

// get builds the artifact unless it is there. A build that fails leaves nothing
// behind: it works in a folder beside and is renamed when complete.
func (c cache) get(ctx context.Context, s *Stack, a artifact) error {
	if c.has(a) {
		return nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if c.has(a) {
		return nil
	}
	tmp := c.dir(a) + ".building"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("clear %s: %w", tmp, err)
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", tmp, err)
	}
	if err := a.build(ctx, s, tmp); err != nil {
		return errors.Join(fmt.Errorf("build %s %s: %w", a.name, a.version, err), os.RemoveAll(tmp))
	}
	if err := os.RemoveAll(c.dir(a)); err != nil {
		return fmt.Errorf("clear %s: %w", c.dir(a), err)
	}
	if err := os.Rename(tmp, c.dir(a)); err != nil {
		return fmt.Errorf("keep %s: %w", c.dir(a), err)
	}
	if !c.has(a) {
		return fmt.Errorf("build %s %s: it did not make all of %v", a.name, a.version, a.files)
	}
	return nil
}
