package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// telegrafVersion is the peer's release.
const telegrafVersion = "v1.37.0"

// telegraf returns the peer's binary, built once from the module proxy with the
// plugins it needs here.
func telegraf(ctx context.Context, o options) (string, error) {
	dir := filepath.Join(o.cache, "telegraf-"+telegrafVersion)
	binary := filepath.Join(dir, "telegraf")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	fmt.Println("building telegraf", telegrafVersion, "(once)")
	work, err := os.MkdirTemp("", "telegraf")
	if err != nil {
		return "", fmt.Errorf("build telegraf: %w", err)
	}
	defer os.RemoveAll(work)
	if err := telegrafModule(ctx, work); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build telegraf: %w", err)
	}
	err = command(ctx, work, []string{"GOFLAGS=-mod=mod", "CGO_ENABLED=0"}, "go", "build", "-o", binary+".new",
		"-tags", "custom,inputs.modbus,outputs.mqtt,serializers.json", "-ldflags", "-s -w", "github.com/influxdata/telegraf/cmd/telegraf")
	if err != nil {
		return "", err
	}
	return binary, os.Rename(binary+".new", binary)
}

// telegrafModule writes a module with the peer's own requirements.
func telegrafModule(ctx context.Context, work string) error {
	const module = "github.com/influxdata/telegraf"
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+telegrafVersion)
	cmd.Dir, cmd.Env = work, append(os.Environ(), "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("download telegraf: %w", err)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		return fmt.Errorf("download telegraf: %w", err)
	}
	mod, err := os.ReadFile(filepath.Join(found.Dir, "go.mod"))
	if err != nil {
		return fmt.Errorf("read telegraf's go.mod: %w", err)
	}
	text := regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(mod), "module bench/telegraf")
	text = strings.Replace(text, "require (\n", "require (\n\t"+module+" "+telegrafVersion+"\n", 1)
	sum, err := os.ReadFile(filepath.Join(found.Dir, "go.sum"))
	if err != nil {
		return fmt.Errorf("read telegraf's go.sum: %w", err)
	}
	for name, data := range map[string]string{
		"go.mod": text, "go.sum": string(sum),
		"tools.go": "//go:build tools\n\npackage tools\n\nimport _ \"" + module + "/cmd/telegraf\"\n",
	} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(data), 0o644); err != nil {
			return fmt.Errorf("write telegraf's module: %w", err)
		}
	}
	return nil
}
