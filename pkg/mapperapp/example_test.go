package mapperapp_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/mapperapp"
	"github.com/twinline/twinline/pkg/twin"
)

// files is a driver whose devices are folders and whose properties are files: a one-wire thermometer, a GPIO pin.
type files struct{}

func (files) Protocol() string { return "file" }

// Open checks the declaration: configData.folder of the device, visitors.configData.file of each property.
func (files) Open(d twin.Device) (mapper.Conn, []twin.Problem) {
	var problems []twin.Problem
	refuse := func(field, what, remedy string) {
		problems = append(problems, twin.Problem{Object: "Device " + d.ID.String(), Field: field, What: what, Remedy: remedy})
	}
	path, ok := d.Config["folder"].(string)
	if !ok {
		refuse("spec.protocol.configData.folder", "there is no folder", "give the folder of the device")
		return nil, problems
	}
	c := &folder{path: path, files: map[string]twin.Property{}}
	for i, p := range d.Properties {
		name, _ := p.Visitor["file"].(string)
		if filepath.IsLocal(name) {
			c.files[p.Name] = p
		} else {
			refuse(fmt.Sprintf("spec.properties[%d].visitors.configData.file", i), fmt.Sprintf("%q is not a file in the folder", name), "give its name")
		}
	}
	return c, problems
}

type folder struct {
	path  string
	files map[string]twin.Property
}

func (c *folder) file(p twin.Property) string {
	return filepath.Join(c.path, p.Visitor["file"].(string))
}

// Read reads each file once.
func (c *folder) Read(ctx context.Context, names []string) ([]twin.Reading, error) {
	if _, err := os.Stat(c.path); err != nil || ctx.Err() != nil {
		return nil, &mapper.Fault{Why: "connection", Err: errors.Join(err, ctx.Err())}
	}
	out := make([]twin.Reading, len(names))
	for i, name := range names {
		out[i] = twin.BadReading(name, "config")
		if p, ok := c.files[name]; ok {
			out[i] = c.read(p)
		}
	}
	return out, nil
}

func (c *folder) read(p twin.Property) twin.Reading {
	text, _ := os.ReadFile(c.file(p)) // a file that is missing has no number either
	v, err := twin.ParseValue(p.Type, strings.TrimSpace(string(text)))
	if err != nil {
		return twin.BadReading(p.Name, "format")
	}
	return twin.Reading{Property: p.Name, Value: v}
}

// Write writes the file; what the file system does not permit is refused for good.
func (c *folder) Write(_ context.Context, name string, v twin.Value) (twin.Value, error) {
	p, ok := c.files[name]
	if !ok {
		return v, &mapper.Fault{Why: "config", Refuse: true, Err: errors.New("there is no such property")}
	}
	err := os.WriteFile(c.file(p), []byte(v.Text()), 0o600)
	if err != nil {
		err = &mapper.Fault{Why: "connection", Refuse: errors.Is(err, os.ErrPermission), Err: err}
	}
	return v, err
}

func (c *folder) Close() error { return nil }

// A complete mapper: with Main for Run, this file is all of its program.
func Example() {
	options := mapperapp.Options{
		Name: "file-mapper", Version: "v1.0.0", Summary: "Serve files as devices",
		New: func(mapperapp.Runtime) (mapper.Driver, error) { return files{}, nil },
	}
	options.Run(context.Background(), []string{"--version"}, os.Stdout, os.Stderr)
	// Output: file-mapper version v1.0.0
}
