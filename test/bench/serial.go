package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// How long one measurement of one side takes.
const (
	sideWarmUp = 200 * time.Millisecond
	sideLength = time.Second
)

// sideVariable tells this program to be one side of the serial benchmark: "mapper nmea FILE".
const sideVariable = "TWINLINE_BENCH_SIDE"

// benchSerial takes the same bytes apart on the serial mapper's path, with a loop that
// one writes by hand, and with Telegraf's parsers. Each measurement is a process of its own on one processor.
func benchSerial(ctx context.Context, o options) error {
	if side := os.Getenv(sideVariable); side != "" {
		return beSide(strings.Fields(side))
	}
	peer, err := telegrafParsers(ctx, o)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "twinline-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, s := range streams() {
		if err := compareSides(ctx, o, dir, self, peer, &s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return floodMapper(ctx, o, dir, self)
}

// contender is one side with what was found of it.
type contender struct {
	name  string
	env   []string
	argv  []string
	found []outcome
}

func compareSides(ctx context.Context, o options, dir, self, peer string, s *stream) error {
	data, perPass := s.tape(rand.New(rand.NewPCG(1, 2)))
	file := filepath.Join(dir, s.name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	own := func(name string) []string { return []string{sideVariable + "=" + name + " " + s.name + " " + file} }
	sides := []contender{
		{name: "serial-mapper's path", env: own("mapper"), argv: []string{self, "-only", "serial"}},
		{name: s.plainly, env: own("plain"), argv: []string{self, "-only", "serial"}},
	}
	for _, parser := range s.peers {
		argv := []string{peer, s.name + "-" + parser, file, sideWarmUp.String(), sideLength.String()}
		sides = append(sides, contender{name: "telegraf " + telegrafVersion + " " + parser, argv: argv})
	}
	for range 2*o.rounds + 1 {
		for i := range sides {
			f, err := measureSide(ctx, sides[i].argv, sides[i].env)
			if err != nil {
				return fmt.Errorf("%s: %w", sides[i].name, err)
			}
			if f.Frames != f.All*perPass {
				return fmt.Errorf("%s: %d frames in %d passes of %d", sides[i].name, f.Frames, f.All, perPass)
			}
			sides[i].found = append(sides[i].found, f)
		}
	}
	if err := sameWork(s, sides); err != nil {
		return err
	}
	reportSides(s, len(data), perPass, sides)
	return nil
}

// sameWork reports where the sides did not find the same values.
func sameWork(s *stream, sides []contender) error {
	want := sides[0].found[0]
	for i, c := range sides {
		for _, f := range c.found {
			if f.Values*want.All != want.Values*f.All {
				return fmt.Errorf("%s found %d values in %d passes, the mapper's path %d in %d", c.name, f.Values, f.All, want.Values, want.All)
			}
			for p := range want.Sums {
				if i >= len(sides)-len(s.peers) && p < s.unlike {
					continue
				}
				a, b := f.Sums[p]/float64(f.All), want.Sums[p]/float64(want.All)
				if math.Abs(a-b) > 1e-6*math.Abs(b) {
					return fmt.Errorf("%s found other values of property %d than the mapper's path: their sums are %g and %g", c.name, p, a, b)
				}
			}
		}
	}
	return nil
}

// beSide is one side, in a process of its own.
func beSide(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s is %q", sideVariable, args)
	}
	if args[0] == "endless" {
		return endless(args[2])
	}
	for _, s := range streams() {
		if s.name != args[1] {
			continue
		}
		run := s.plain
		if args[0] == "mapper" {
			run = mapperSide(&s)
		}
		return play(run, args[2], sideWarmUp, sideLength)
	}
	return fmt.Errorf("no stream %q", args[1])
}

// measureSide runs one side on one processor: at any time only one of its threads runs Go code.
func measureSide(ctx context.Context, argv, env []string) (outcome, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "GOMAXPROCS=1"), env...)
	var f outcome
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return f, fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(out, &f)
}

// rates are the fast rates of real ports; a byte has ten bits on the line.
func rates() []int { return []int{115200, 921600} }

func reportSides(s *stream, bytes, frames int, sides []contender) {
	size := float64(bytes) / float64(frames)
	fmt.Printf("\n%s\n%.0f bytes a frame in reads of %d; one processor (GOMAXPROCS=1); median of %d\n", s.title, size, chunk, len(sides[0].found))
	fmt.Printf("  %-32s %14s %12s %14s %13s\n", "", "CPU per frame", "frames/s", "allocs/frame", "bytes/frame")
	of := func(c *contender, what func(outcome) float64) float64 {
		x := make([]float64, len(c.found))
		for i, f := range c.found {
			x[i] = what(f)
		}
		return middle(x)
	}
	var rows [][4]float64
	for i := range sides {
		per := func(f outcome, x float64) float64 { return x / float64(f.Passes*frames) }
		row := [4]float64{
			of(&sides[i], func(f outcome) float64 { return per(f, float64(f.CPU.Nanoseconds())) }),
			of(&sides[i], func(f outcome) float64 { return float64(f.Passes*frames) / f.Wall.Seconds() }),
			of(&sides[i], func(f outcome) float64 { return per(f, float64(f.Allocs)) }),
			of(&sides[i], func(f outcome) float64 { return per(f, float64(f.Bytes)) }),
		}
		fmt.Printf("  %-32s %11.0f ns %12.0f %14.2f %13.0f\n", sides[i].name, row[0], row[1], row[2], row[3])
		rows = append(rows, row)
	}
	for i, other := range append([]string{"by hand"}, s.peers...) {
		a, b := rows[0], rows[i+1]
		fmt.Printf("  %-32s %14.2f %12.2f\n", "ratio ours/"+other, a[0]/b[0], a[1]/b[1])
	}
	for _, baud := range rates() {
		carries := float64(baud) / 10 / size
		fmt.Printf("  a line of %6d baud carries %.0f frames/s: one processor has room for %.0f such lines\n", baud, carries, math.Floor(rows[0][1]/carries))
	}
}

//go:embed serialside.go testdata/telegrafparse/main.go
var parserSources embed.FS

// telegrafParsers returns a program with the peer's parsers, built once from the
// module proxy for each version of its sources.
func telegrafParsers(ctx context.Context, o options) (string, error) {
	sum := sha256.New()
	sources := map[string][]byte{}
	for _, name := range []string{"serialside.go", "testdata/telegrafparse/main.go"} {
		data, err := parserSources.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read the sources of telegraf's side: %w", err)
		}
		sum.Write(data)
		sources[filepath.Base(name)] = data
	}
	dir := filepath.Join(o.cache, "telegraf-"+telegrafVersion)
	binary := filepath.Join(dir, fmt.Sprintf("parse-%x", sum.Sum(nil)[:6]))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	fmt.Println("building the parsers of telegraf", telegrafVersion, "(once)")
	work, err := os.MkdirTemp("", "telegraf")
	if err != nil {
		return "", fmt.Errorf("build telegraf's parsers: %w", err)
	}
	defer os.RemoveAll(work)
	if err := telegrafModule(ctx, work); err != nil {
		return "", err
	}
	for name, data := range sources {
		if err := os.WriteFile(filepath.Join(work, name), data, 0o600); err != nil {
			return "", fmt.Errorf("build telegraf's parsers: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build telegraf's parsers: %w", err)
	}
	err = command(ctx, work, []string{"GOFLAGS=-mod=mod", "CGO_ENABLED=0"}, "go", "build", "-o", binary+".new", "-ldflags", "-s -w", ".")
	if err != nil {
		return "", err
	}
	return binary, os.Rename(binary+".new", binary)
}
