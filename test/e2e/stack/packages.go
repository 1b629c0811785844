package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

// debianPackages are what the stack needs from Debian 12, each with its reason.
func debianPackages() map[string]string {
	return map[string]string{
		"ca-certificates":             "certificates for the package and module mirrors",
		"conntrack":                   "tables of connections, to look at by hand",
		"containerd":                  "runs the edge pods",
		"containernetworking-plugins": "network of pods without hostNetwork",
		"debootstrap":                 "makes the Debian 13 folder TimescaleDB comes from",
		"etcd-server":                 "store of kube-apiserver",
		"gcc":                         "EdgeCore's sqlite is C",
		"iproute2":                    "removes the pod bridge",
		"iptables":                    "cuts the link between edge and cloud",
		"libc6-dev":                   "EdgeCore's sqlite is C",
		"maven":                       "fetches Kafka's jars",
		"mbpoll":                      "Modbus client of another hand, to look at registers",
		"mosquitto":                   "MQTT broker of the edge node",
		"mosquitto-clients":           "publish and subscribe by hand",
		"openjdk-17-jre-headless":     "runs Kafka",
		"python3-kafka":               "Python producer and consumer of the reference architecture",
		"runc":                        "runs the edge pods",
		"socat":                       "pseudo-terminal pairs for serial lines",
		"util-linux":                  "mount namespace of the database",
	}
}

// installPackages installs the Debian packages that are missing. No service is
// started by it, whatever the machine's own policy says.
func (s *Stack) installPackages(ctx context.Context) error {
	wanted := debianPackages()
	if s.opts.DatabaseOnly {
		wanted = map[string]string{"debootstrap": wanted["debootstrap"], "util-linux": wanted["util-linux"]}
	}
	missing, err := missingPackages(ctx, wanted)
	if err != nil || len(missing) == 0 {
		return err
	}
	unlock, err := s.cache.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if missing, err = missingPackages(ctx, wanted); err != nil || len(missing) == 0 {
		return err
	}
	for _, name := range missing {
		s.progress.say("package %s: %s", name, wanted[name])
	}
	what := fmt.Sprintf("installing %d Debian packages", len(missing))
	return s.progress.long(what, func() error { return aptInstall(ctx, missing) })
}

// missingPackages returns the names that dpkg does not know as installed.
func missingPackages(ctx context.Context, wanted map[string]string) ([]string, error) {
	// dpkg-query exits 1 when it does not know one of the names.
	out, err := run(ctx, "dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n")
	if err != nil {
		return nil, err
	}
	installed := map[string]bool{}
	for _, line := range strings.Split(string(out), "\n") {
		if name, status, ok := strings.Cut(line, " "); ok && status == "installed" {
			installed[name] = true
		}
	}
	var missing []string
	for name := range wanted {
		if !installed[name] {
			missing = append(missing, name)
		}
	}
	sort.Strings(missing)
	return missing, nil
}

func aptInstall(ctx context.Context, names []string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	restore, err := denyServices()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	// A failing third-party source must not stop us: the install tells.
	_, updateErr := run(ctx, "apt-get", "update", "-q")
	argv := append([]string{"apt-get", "install", "-y", "-q", "--no-install-recommends"}, names...)
	c := command{argv: argv, env: []string{"DEBIAN_FRONTEND=noninteractive"}}
	if _, err := c.run(ctx); err != nil {
		return errors.Join(err, updateErr)
	}
	return nil
}

// denyServices makes Debian's packages not start their services while they are
// installed, and returns how to put the machine's own policy back.
func denyServices() (restore func() error, err error) {
	const policy, kept = "/usr/sbin/policy-rc.d", "/usr/sbin/policy-rc.d.before-twinline"
	const ours = "#!/bin/sh\n# Twinline's stack starts its own processes.\nexit 101\n"
	present, err := os.ReadFile(policy)
	had := err == nil && string(present) != ours
	if had {
		if err := os.Rename(policy, kept); err != nil {
			return nil, fmt.Errorf("keep service policy: %w", err)
		}
	}
	if err := os.WriteFile(policy, []byte(ours), 0o755); err != nil {
		return nil, fmt.Errorf("write service policy: %w", err)
	}
	return func() error {
		if _, err := os.Stat(kept); err == nil {
			return os.Rename(kept, policy)
		}
		return os.Remove(policy)
	}, nil
}
