package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// imageUID is ImageUser as a number.
const imageUID = 65532

// HostDir makes a folder on the edge node that pods may write to, and returns
// its path for a hostPath volume. It belongs to ImageUser. It stays until the
// next Up.
func (s *Stack) HostDir(name string) (string, error) {
	dir, err := s.volumePath(name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make folder for pods: %w", err)
	}
	if err := os.Chown(dir, imageUID, imageUID); err != nil {
		return "", fmt.Errorf("make folder for pods: %w", err)
	}
	return dir, nil
}

// SerialLine gives a serial device, such as the /dev/pts/N of a simulator, a
// path that stays the same when the simulator comes back with another number.
// It opens the device to everyone, because pods do not run as root.
//
// In a pod the path is a hostPath volume without type, mounted at the device's
// name:
//
//	volumes:
//	- {name: rtu0, hostPath: {path: PATH}}
//	volumeMounts:
//	- {name: rtu0, mountPath: /dev/rtu0}
//
// containerd follows the link when it creates the container and binds the
// device itself; runc's device rules allow every pseudo-terminal (c 136:*). A
// real serial port needs a device plugin or a privileged container instead. A
// pod sees a new device only after it was created anew. /dev/pts of the pod is
// its own and does not show the line.
func (s *Stack) SerialLine(name, device string) (string, error) {
	path, err := s.volumePath(name)
	if err != nil {
		return "", err
	}
	if err := os.Chmod(device, 0o666); err != nil {
		return "", fmt.Errorf("open serial line to pods: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make folder of serial line: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("replace serial line %s: %w", name, err)
	}
	if err := os.Symlink(device, path); err != nil {
		return "", fmt.Errorf("name serial line: %w", err)
	}
	return path, nil
}

// volumePath is where something for pods lies. The name is a single element.
func (s *Stack) volumePath(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("volume name %q: must be one path element", name)
	}
	return s.path("volumes", name), nil
}

// PodLog returns what all containers of a pod on the edge node have written, in
// the runtime's format. `kubectl logs` does not work there: CloudStream is off.
func (s *Stack) PodLog(namespace, pod string) (string, error) {
	files, err := filepath.Glob(s.path("edgecore", "podlogs", namespace+"_"+pod+"_*", "*", "*.log"))
	if err != nil {
		return "", fmt.Errorf("find log of pod %s/%s: %w", namespace, pod, err)
	}
	var b strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read log of pod %s/%s: %w", namespace, pod, err)
		}
		fmt.Fprintf(&b, "--- %s\n%s", filepath.Base(filepath.Dir(file)), data)
	}
	return b.String(), nil
}
