package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// chain is the iptables chain that drops the packets of the link.
func (s *Stack) chain() string { return strings.ToUpper(s.id) }

// iptables returns the variants to try. Kernels differ in which one works.
func iptables() []string { return []string{"iptables-nft", "iptables-legacy", "iptables"} }

// CutLink makes a black hole between EdgeCore and CloudCore: packets to and from
// CloudHub's ports vanish, and neither side is told. It returns once the rules
// are in force; cutting a cut link is fine.
//
// CloudHub closes a silent connection after 30 s. EdgeHub notices by TCP
// retransmission only, which Up bounds to about 13 s after its next write by a
// low tcp_retries2. It writes at least every heartbeat.
func (s *Stack) CutLink(ctx context.Context) error {
	// Another stack on this machine may have put its own value back meanwhile.
	if err := writeSysctls(map[string]string{"net/ipv4/tcp_retries2": retries}); err != nil {
		return fmt.Errorf("cut link: %w", err)
	}
	var errs []error
	for _, tool := range iptables() {
		// Written first, so that Down finds what a crash leaves half made.
		if err := writeFile(s.cutFile(), []byte(tool), 0o644); err != nil {
			return err
		}
		err := s.cutWith(ctx, tool)
		if err == nil {
			return nil
		}
		errs = append(errs, err, s.HealLink(ctx))
	}
	return fmt.Errorf("cut link: %w", errors.Join(errs...))
}

// cutFile names the iptables variant the link is cut with, while it is.
func (s *Stack) cutFile() string { return s.path("link-cut") }

func (s *Stack) cutWith(ctx context.Context, tool string) error {
	chain := s.chain()
	if _, err := run(ctx, tool, "-w", "-N", chain); err != nil {
		if _, listErr := run(ctx, tool, "-w", "-S", chain); listErr != nil {
			return err
		}
	}
	rules := [][]string{{"-F", chain}}
	for _, port := range []int{s.Ports.CloudHub, s.Ports.CloudHubHTTPS} {
		for _, side := range []string{"--dport", "--sport"} {
			rules = append(rules, []string{"-A", chain, "-p", "tcp", side, strconv.Itoa(port), "-j", "DROP"})
		}
	}
	if _, err := run(ctx, tool, "-w", "-C", "INPUT", "-j", chain); err != nil {
		// On arrival, not on leaving: a sender is told of a local drop.
		rules = append(rules, []string{"-I", "INPUT", "1", "-j", chain})
	}
	for _, rule := range rules {
		if _, err := run(ctx, append([]string{tool, "-w"}, rule...)...); err != nil {
			return err
		}
	}
	return nil
}

// HealLink lets packets pass again and removes what CutLink made. EdgeHub dials
// again within two heartbeats after it noticed the cut; WaitLink tells when.
func (s *Stack) HealLink(ctx context.Context) error {
	tool, err := os.ReadFile(s.cutFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("heal link: %w", err)
	}
	if err := s.healWith(ctx, string(tool)); err != nil {
		return err
	}
	if err := os.Remove(s.cutFile()); err != nil {
		return fmt.Errorf("heal link: %w", err)
	}
	return nil
}

// healWith removes the chain, or the part of it that was made.
func (s *Stack) healWith(ctx context.Context, tool string) error {
	if _, err := run(ctx, tool, "-w", "-S", s.chain()); err != nil {
		return nil //nolint:nilerr // there is no chain
	}
	if _, err := run(ctx, tool, "-w", "-C", "INPUT", "-j", s.chain()); err == nil {
		if _, err := run(ctx, tool, "-w", "-D", "INPUT", "-j", s.chain()); err != nil {
			return fmt.Errorf("heal link: %w", err)
		}
	}
	for _, flag := range []string{"-F", "-X"} {
		if _, err := run(ctx, tool, "-w", flag, s.chain()); err != nil {
			return fmt.Errorf("heal link: %w", err)
		}
	}
	return nil
}

// LinkCut reports whether CutLink's rules are in force.
func (s *Stack) LinkCut(ctx context.Context) bool {
	tool, err := os.ReadFile(s.cutFile())
	if err != nil {
		return false
	}
	_, err = run(ctx, string(tool), "-w", "-C", "INPUT", "-j", s.chain())
	return err == nil
}

// WaitLink waits until news of the edge node arrives in the cloud: the lease
// that edged renews every 10 s is renewed after the call. It proves the link
// from end to end, whatever either side believes of it.
func (s *Stack) WaitLink(ctx context.Context, within time.Duration) error {
	before, err := s.leaseRenewal(ctx)
	if err != nil {
		before = ""
	}
	return wait(ctx, within, func(ctx context.Context) error {
		now, err := s.leaseRenewal(ctx)
		if err != nil {
			return err
		}
		if now == before {
			return fmt.Errorf("wait for link: lease of %s was last renewed at %s", s.Node, now)
		}
		return nil
	})
}

func (s *Stack) leaseRenewal(ctx context.Context) (string, error) {
	out, err := s.Kubectl(ctx, nil, "-n", "kube-node-lease", "get", "lease", s.Node, "-o", "jsonpath={.spec.renewTime}")
	return strings.TrimSpace(string(out)), err
}
