// Package validate is the command `twinline validate`: it says every mistake in
// Device, DeviceModel and Reaction manifests, before they reach a cluster.
package validate

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

const example = `  twinline validate device.yaml model.yaml
  twinline validate examples/demo
  kubectl get devices,devicemodels -A -o json | twinline validate -
  twinline validate --output json plant/ | jq .problems`

// MaxFiles bounds the files of one run: some thousand devices, one to a file.
const MaxFiles = 20_000

// Problem is a problem and the file it is in.
type Problem struct {
	Source string `json:"source"`
	Object string `json:"object"`
	Field  string `json:"field"`
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Report is what one run found; the JSON of --output json.
type Report struct {
	Devices   int       `json:"devices"`
	Models    int       `json:"models"`
	Reactions int       `json:"reactions"`
	Skipped   int       `json:"skipped"` // objects of other kinds
	Problems  []Problem `json:"problems"`
	Notes     []string  `json:"notes"` // what could not be checked
}

// NewCommand returns the command. drivers makes, by protocol, the drivers whose
// Open checks the protocol's part of a device.
func NewCommand(drivers map[string]func() mapper.Driver) *cobra.Command {
	output := "text"
	cmd := &cobra.Command{
		Use:   "validate FILE…",
		Short: "say every mistake in Device, DeviceModel and Reaction manifests",
		Long: "Validate reads YAML and JSON files, folders of them, or standard input (-), and prints one line for each mistake:\n" +
			"the file, the object, the field, what is wrong, and what to write instead. Objects of other kinds are left alone.\n" +
			"Models must be among the files. It needs no cluster and touches no device. It exits with 2 if there are problems.",
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return app.ConfigError(fmt.Errorf("name a file or a folder, or - for standard input"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return app.ConfigError(fmt.Errorf("--output %q: want text or json", output))
			}
			r, err := Check(args, cmd.InOrStdin(), drivers)
			if err != nil {
				return err
			}
			return r.write(cmd.OutOrStdout(), output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "text or json")
	return cmd
}

// write prints the report; the error is that there are problems.
func (r *Report) write(w io.Writer, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	} else {
		for _, p := range r.Problems {
			fmt.Fprintln(w, p)
		}
		for _, n := range r.Notes {
			fmt.Fprintln(w, "note:", n)
		}
		fmt.Fprintf(w, "%s, %s, ", count(r.Devices, "device"), count(r.Models, "model"))
		if r.Reactions > 0 {
			fmt.Fprintf(w, "%s, ", count(r.Reactions, "reaction"))
		}
		fmt.Fprintln(w, count(len(r.Problems), "problem"))
	}
	if len(r.Problems) > 0 {
		return app.ConfigError(fmt.Errorf("%s", count(len(r.Problems), "problem")))
	}
	return nil
}

// String is one line: "<file>: <object>: <field>: <what>; <remedy>".
func (p Problem) String() string {
	said := twin.Problem{Object: p.Object, Field: p.Field, What: p.What, Remedy: p.Remedy}.Error()
	if p.Source == "" || strings.HasPrefix(p.Object, p.Source) {
		return said
	}
	return p.Source + ": " + said
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// Check reads the files and checks all that is in them. Its error is a file
// that cannot be read.
func Check(paths []string, stdin io.Reader, drivers map[string]func() mapper.Driver) (*Report, error) {
	c := &checker{report: Report{Problems: []Problem{}, Notes: []string{}}, sources: map[string]string{}}
	for _, path := range paths {
		if err := c.read(path, stdin); err != nil {
			return nil, err
		}
	}
	devices, problems := declare.Resolve(c.objects.Devices, c.objects.Models)
	c.add("", problems)
	c.open(devices, drivers)
	c.reactions(devices, len(problems) == 0)
	r := &c.report
	r.Devices, r.Models, r.Skipped = len(c.objects.Devices), len(c.objects.Models), c.objects.Skipped-r.Reactions
	return r, nil
}

type checker struct {
	report  Report
	objects declare.Objects
	rules   []*rule.Rule
	sources map[string]string // object, as problems name it, to file
	files   int
}

// read reads a file, a folder with all below it, or standard input.
func (c *checker) read(path string, stdin io.Reader) error {
	if path == "-" {
		return c.decode("stdin", stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	if !info.IsDir() {
		return c.file(path)
	}
	return filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !manifest(name) {
			return err
		}
		return c.file(name)
	})
}

// manifest reports whether a file of a folder is one of manifests. A
// kustomization.yaml need not name its kind.
func manifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)) != "kustomization"
	}
	return false
}

func (c *checker) file(name string) error {
	if c.files++; c.files > MaxFiles {
		return fmt.Errorf("validate: more than %d files", MaxFiles)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	defer func() { _ = f.Close() }()
	return c.decode(name, f)
}

func (c *checker) decode(source string, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, declare.MaxSize+1)) // Decode refuses what is longer
	if err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	objects, problems := declare.Decode(source, data)
	for i := range objects.Devices {
		c.sourceOf(objects.Devices[i].Name(), source)
	}
	for i := range objects.Models {
		c.sourceOf(objects.Models[i].Name(), source)
	}
	c.objects.Add(objects)
	c.add(source, problems)
	set, wrong := rule.Decode(source, data)
	c.report.Reactions += len(set.Rules) + len(set.Wrong)
	c.rules = append(c.rules, set.Rules...)
	c.add(source, slices.DeleteFunc(wrong, func(p twin.Problem) bool { return slices.Contains(problems, p) })) // unreadable for both
	return nil
}

// reactions checks rules against the devices that are declared. Where some are
// declared wrongly, what a rule misses may be there when they are mended.
func (c *checker) reactions(devices []twin.Device, complete bool) {
	seen := map[string]*rule.Rule{}
	for _, r := range c.rules {
		object := rule.Kind + " " + r.Name
		c.sourceOf(object, r.Source)
		if first := seen[r.Name]; first != nil {
			c.add(r.Source, []twin.Problem{{Object: object, Field: "metadata.name", What: "also declared in " + first.Source, Remedy: "keep one of them"}})
			continue
		}
		seen[r.Name] = r
		if !complete {
			continue
		}
		problems, unknown := r.Check(devices)
		c.add("", problems)
		for _, id := range unknown {
			c.report.Notes = append(c.report.Notes, fmt.Sprintf("%s: the Device %s is not among the files, so its properties were not checked", object, id))
		}
	}
}

func (c *checker) sourceOf(object, source string) {
	if _, known := c.sources[object]; !known {
		c.sources[object] = source
	}
}

func (c *checker) add(source string, problems []twin.Problem) {
	for _, p := range problems {
		from := source
		if from == "" {
			from = c.sources[p.Object]
		}
		c.report.Problems = append(c.report.Problems, Problem{from, p.Object, p.Field, p.What, p.Remedy})
	}
}

// open has the drivers check their part. All devices are open at once, as on a
// node: two that cannot share a line are found.
func (c *checker) open(devices []twin.Device, drivers map[string]func() mapper.Driver) {
	opened := map[string]mapper.Driver{}
	unknown := map[string]int{}
	for _, d := range devices {
		newDriver, ok := drivers[d.Protocol]
		if !ok {
			unknown[d.Protocol]++
			continue
		}
		if opened[d.Protocol] == nil {
			opened[d.Protocol] = newDriver()
		}
		conn, problems := opened[d.Protocol].Open(d)
		if conn != nil {
			defer func() { _ = conn.Close() }() // it did no I/O: nothing can be lost
		}
		c.add("", problems)
	}
	for _, protocol := range slices.Sorted(maps.Keys(unknown)) {
		c.report.Notes = append(c.report.Notes, fmt.Sprintf("%s of the protocol %q: its configData was not checked (%s)",
			count(unknown[protocol], "device"), protocol, schema.Suggest(protocol, slices.Sorted(maps.Keys(drivers)))))
	}
}
