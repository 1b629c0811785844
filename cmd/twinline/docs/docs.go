// Package docs is the command `twinline docs`: it writes the reference pages
// that are made from the tables by which Twinline reads configuration.
package docs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/app"
	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/internal/schema"
)

const example = `  twinline docs --output docs/spec
  twinline docs            # all pages to standard output`

// Page is one generated file.
type Page struct {
	Name  string // of the file
	Write func(w io.Writer) error
}

// Protocol is what a driver declares beyond KubeEdge's own fields.
type Protocol struct {
	Name   string
	Tables []*schema.Table // how to reach a device, then how to read a property
}

const generated = "<!-- Written by `make generate` from the tables in the code. Do not edit. -->\n\n"

// Pages returns all pages: device.md with the protocols' tables, and reaction.md.
func Pages(protocols ...Protocol) []Page {
	return []Page{
		{"device.md", func(w io.Writer) error { return device(w, protocols) }},
		{"reaction.md", reaction},
	}
}

func device(w io.Writer, protocols []Protocol) error {
	fmt.Fprint(w, "# Declaring devices\n\n", generated,
		"A device is a KubeEdge `Device` and its `DeviceModel`. Each of their fields is honoured or refused with a sentence; none is ignored.\n",
		"`twinline validate` says every mistake before it reaches a cluster; the mapper finds the same ones.\n",
		"A mistake in a property takes that property away and no other; one elsewhere in a Device takes that device away and no other.\n\n")
	if err := declare.WriteReference(w, 2); err != nil {
		return err
	}
	for _, p := range protocols {
		fmt.Fprintf(w, "## Protocol `%s`\n\n", p.Name)
		for _, t := range p.Tables {
			if err := t.WriteMarkdown(w, 3); err != nil {
				return err
			}
		}
	}
	return nil
}

func reaction(w io.Writer) error {
	fmt.Fprint(w, "# Reactions\n\n", generated,
		"A Reaction is a rule that the reactor of an edge node runs on the local bus, with or without the cloud.\n",
		"While it holds, it claims the properties under `then`; when it ends, or goes, they are released, and the next claim\n",
		"or the cloud's desired value holds again. `GET /api/v1/rules` of the reactor shows where each rule stands and why.\n\n",
		"```yaml\n"+
			"apiVersion: twinline.io/v1alpha1\n"+
			"kind: Reaction\n"+
			"metadata: {name: cool-the-boiler, namespace: default}\n"+
			"spec:\n"+
			"  inputs:\n"+
			"    temp: {device: default/boiler, property: temperature, maxAge: 30s}\n"+
			"  when: temp > 80.0\n"+
			"  for: 5s\n"+
			"  until: temp < 70.0\n"+
			"  then:\n"+
			"  - {device: default/boiler, property: pump, value: true}\n"+
			"```\n\n")
	return rule.Table().WriteMarkdown(w, 2)
}

// NewCommand returns the command.
func NewCommand(pages []Page) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "docs",
		Short:   "write the reference of devices and reactions as Markdown",
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return app.ConfigError(fmt.Errorf("argument %q is not understood; see --help", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return write(cmd.OutOrStdout(), output, pages) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "folder to write the pages into; empty: standard output")
	return cmd
}

func write(w io.Writer, dir string, pages []Page) error {
	for _, p := range pages {
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			return fmt.Errorf("write %s: %w", p.Name, err)
		}
		text := append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
		if dir == "" {
			if _, err := w.Write(text); err != nil {
				return fmt.Errorf("write %s: %w", p.Name, err)
			}
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("write %s: %w", p.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.Name), text, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", p.Name, err)
		}
	}
	return nil
}
