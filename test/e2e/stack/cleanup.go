package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// killWait bounds the wait for the end of a killed process.
const killWait = 10 * time.Second

// unmountAll unmounts everything below the run folder, the innermost first.
func (s *Stack) unmountAll() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	points := mountsBelow(string(data), s.Dir)
	var errs []error
	for _, point := range points {
		if syscall.Unmount(point, 0) == nil {
			continue
		}
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow returns the mount points below dir in a mountinfo text, longest
// first.
func mountsBelow(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for _, line := range strings.Split(mountinfo, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	sort.SliceStable(points, func(i, j int) bool { return len(points[i]) > len(points[j]) })
	return points
}

// cgroupRoot is the cgroup of the edge node's pods. Two kubelets below one root
// delete each other's pods. With unified cgroups the root itself is used.
func (s *Stack) cgroupRoot() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "/"
	}
	return "/" + s.id
}

// makeCgroups makes the cgroup in every hierarchy of cgroup version 1.
func (s *Stack) makeCgroups() error {
	if s.cgroupRoot() == "/" {
		return nil
	}
	hierarchies, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	for _, h := range hierarchies {
		top := filepath.Join("/sys/fs/cgroup", h.Name())
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err != nil || h.Name() == "unified" {
			continue
		}
		own := filepath.Join(top, s.id)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return fmt.Errorf("make cgroup %s: %w", own, err)
		}
		// A cpuset without processors and memory takes no process.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			all, err := os.ReadFile(filepath.Join(top, f))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(own, f), all, 0o644); err != nil {
				return fmt.Errorf("set %s of cgroup %s: %w", f, own, err)
			}
		}
	}
	return nil
}

// removeCgroups removes the cgroup and those below it.
func (s *Stack) removeCgroups() error {
	tops, err := filepath.Glob("/sys/fs/cgroup/*/" + s.id)
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	var errs []error
	for _, top := range tops {
		var dirs []string
		walkErr := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		errs = append(errs, walkErr)
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, syscall.ENOENT) {
				errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dirs[i], err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeBridge removes the network device of pods, if any pod made one.
func (s *Stack) removeBridge(ctx context.Context) error {
	if _, err := os.Stat("/sys/class/net/" + s.bridge()); err != nil {
		return nil //nolint:nilerr // there is none
	}
	_, err := run(ctx, "ip", "link", "delete", s.bridge())
	return err
}

// removeLogLinks removes the links edged makes outside its own folders.
func (s *Stack) removeLogLinks() error {
	links, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		return fmt.Errorf("list container logs: %w", err)
	}
	for _, link := range links {
		target, readErr := os.Readlink(link)
		if readErr != nil || !strings.HasPrefix(target, s.Dir+"/") {
			continue
		}
		err = errors.Join(err, os.Remove(link))
	}
	return err
}
