// Command report reads the JSON of `go test -json` on standard input and shows
// it to people: a line per package as it ends, the output of what failed, and at the end
// which real components were tested against, what was skipped, and the counts.
//
// A test names the real thing it ran against by t.Attr("real", "Mosquitto 2.0.11"), and
// what it has measured by t.Attr("figure", "missing 0; double 0"), which is shown last.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json` (cmd/test2json).
type event struct {
	Action, Package, Test, Output, Key, Value string
	ImportPath                                string
	Elapsed                                   float64
}

// maxLine bounds one line of input: a test's output line.
const maxLine = 4 << 20

func main() {
	title := flag.String("title", "test", "what ran, for the last line")
	flag.Parse()
	r := &report{out: os.Stdout, output: map[string][]string{}, real: map[string]int{}, pending: map[string][]string{}}
	err := r.read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	r.summary(*title)
	if err != nil || r.failed > 0 || r.broken > 0 || r.passed == 0 {
		os.Exit(1)
	}
}

// report collects what the summary says.
type report struct {
	out                     io.Writer
	passed, failed, skipped int
	broken                  int                 // packages that did not build or failed outside a test
	output                  map[string][]string // by package and test
	real                    map[string]int      // tests by the real thing they ran against
	pending                 map[string][]string // real things of a test that still runs
	figures                 []string
	skips, failures         []string
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text()) // the go command's own words
			continue
		}
		r.take(e)
	}
	return lines.Err()
}

func (r *report) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "attr":
		if e.Key == "real" {
			r.pending[key] = append(r.pending[key], e.Value)
		}
		if e.Key == "figure" {
			r.figures = append(r.figures, e.Value)
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, key)
		}
		delete(r.output, key)
	}
}

func (r *report) endTest(e event, key string) {
	for _, thing := range r.pending[key] {
		r.real[thing]++
	}
	delete(r.pending, key)
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips = append(r.skips, key+": "+strings.TrimSpace(strings.Join(r.output[key], " ")))
	case "fail":
		r.failed++
		r.failures = append(r.failures, key)
		fmt.Fprint(r.out, strings.Join(r.output[key], ""))
	}
}

func (r *report) endPackage(e event) {
	word := map[string]string{"pass": "ok", "fail": "FAIL", "skip": "none"}[e.Action]
	if e.Action == "fail" {
		r.broken++
		fmt.Fprint(r.out, strings.Join(r.output[e.Package+" "], ""))
	}
	if e.Action != "skip" { // a package without tests
		fmt.Fprintf(r.out, "%-4s %7.1fs %s\n", word, e.Elapsed, e.Package)
	}
}

func (r *report) summary(title string) {
	if len(r.real) > 0 {
		fmt.Fprintf(r.out, "\n%s, on the real thing:\n", title)
		for _, thing := range slices.Sorted(maps.Keys(r.real)) {
			fmt.Fprintf(r.out, "  %3d tests  %s\n", r.real[thing], thing)
		}
	}
	for _, list := range []struct {
		word  string
		names []string
	}{{"skipped", r.skips}, {"failed", r.failures}} {
		if len(list.names) > 0 {
			fmt.Fprintf(r.out, "\n%s, %s:\n", title, list.word)
		}
		for _, name := range list.names {
			fmt.Fprintln(r.out, "  "+name)
		}
	}
	if len(r.figures) > 0 {
		fmt.Fprintf(r.out, "\n%s\n", strings.Join(r.figures, "\n"))
	}
	fmt.Fprintf(r.out, "\n%s: %d passed, %d failed, %d skipped\n", title, r.passed, r.failed, r.skipped)
}
