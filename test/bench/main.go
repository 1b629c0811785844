// Command bench measures Twinline beside its peers, in the same run on the same
// machine, and prints ratios. Machines differ and are noisy: the ratios count, not the figures.
//
//	go run .                      # all
//	go run . -only mapper -devices 100 -seconds 20
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	only    string
	devices []int
	window  time.Duration
	rounds  int
	rows    int
	cache   string
	root    string // of the repository
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o, err := parse()
	if err != nil {
		return err
	}
	benches := []struct {
		name string
		run  func(context.Context, options) error
	}{{"mapper", benchMapper}, {"storage", benchStorage}, {"serial", benchSerial}}
	for _, b := range benches {
		if o.only != "" && o.only != b.name {
			continue
		}
		if err := b.run(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

func parse() (options, error) {
	var o options
	devices := flag.String("devices", "100,1000", "numbers of simulated devices")
	flag.StringVar(&o.only, "only", "", "mapper, storage or serial; default all")
	seconds := flag.Int("seconds", 20, "length of one measurement")
	flag.IntVar(&o.rounds, "rounds", 2, "measurements of each side, in turn")
	flag.IntVar(&o.rows, "rows", 1_000_000, "rows of the storage benchmark")
	flag.Parse()
	o.window = time.Duration(*seconds) * time.Second
	for _, text := range strings.Split(*devices, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 5000 {
			return o, fmt.Errorf("-devices %q: want numbers from 1 to 5000", *devices)
		}
		o.devices = append(o.devices, n)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return o, fmt.Errorf("find the cache folder: %w", err)
	}
	o.cache = filepath.Join(cache, "twinline")
	o.root, err = filepath.Abs("../..")
	return o, err
}
