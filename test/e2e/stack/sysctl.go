package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// retries is tcp_retries2 while the stack is up: a connection without answers
// fails after about 13 s instead of a quarter of an hour.
const retries = "5"

// changedSysctls are the kernel settings that Up, edged and the bridge change.
func changedSysctls() []string {
	return []string{
		"net/ipv4/tcp_retries2", "net/ipv4/ip_forward",
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	}
}

// readSysctls returns the present values. A setting this kernel lacks is left
// out.
func readSysctls() map[string]string {
	values := map[string]string{}
	for _, name := range changedSysctls() {
		if data, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil {
			values[name] = strings.TrimSpace(string(data))
		}
	}
	return values
}

// writeSysctls sets values that differ from the present ones.
func writeSysctls(values map[string]string) error {
	var errs []error
	present := readSysctls()
	for name, value := range values {
		if present[name] == value {
			continue
		}
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("set %s to %s: %w", name, value, err))
		}
	}
	return errors.Join(errs...)
}
