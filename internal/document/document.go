// Package document reads Kubernetes objects out of YAML and JSON files: several
// documents, Lists, exact numbers, and problems that say where. What an object means is
// for others.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
	goyaml "sigs.k8s.io/yaml/goyaml.v2"

	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of what is read.
const (
	// MaxSize bounds one file or answer, in bytes: about ten thousand devices.
	MaxSize = 32 << 20
	// MaxObjects bounds the objects of one file or answer; KubeEdge names a few
	// hundred devices for one node as its practical limit.
	MaxObjects = 20_000
)

// Object is one object of a file.
type Object struct {
	Where      string // the file, and which document or item of it
	APIVersion string
	Kind       string
	Namespace  string // "default" where the object names none
	Name       string // may be ""
	Tree       map[string]any
}

// Group is the part of APIVersion before the slash; "" for the core group.
func (o *Object) Group() string {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok && !strings.Contains(group, ".") {
		return ""
	}
	return group // also of an APIVersion that lacks its version
}

// Read calls visit for each object of a YAML file of one or several documents,
// or of JSON, in order; Lists are read as their items. source names the data in
// problems, which are what cannot be read: one of them costs the document it is in.
// Numbers of a Tree are json.Number. visit may change the Tree.
func Read(source string, data []byte, visit func(Object)) []twin.Problem {
	r := &reader{source: source, visit: visit}
	if len(data) > MaxSize {
		r.problem("", fmt.Sprintf("more than %d bytes", MaxSize), "split it")
		return r.problems
	}
	if objects, ok := jsonStream(data); ok {
		for i, object := range objects {
			r.json(numbered(source, i), object)
		}
		return r.problems
	}
	for i, doc := range split(data) {
		r.yaml(numbered(source, i), doc)
		if r.full {
			break
		}
	}
	return r.problems
}

func numbered(source string, i int) string {
	if i == 0 {
		return source
	}
	return fmt.Sprintf("%s, document %d", source, i+1)
}

// jsonStream returns the objects of data if it is JSON, one or several after another.
func jsonStream(data []byte) ([]json.RawMessage, bool) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, false
	}
	var objects []json.RawMessage
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var object json.RawMessage
		switch err := d.Decode(&object); {
		case errors.Is(err, io.EOF):
			return objects, true
		case err != nil || len(objects) > MaxObjects:
			return objects, err == nil // what is beyond the bound is refused by admit
		}
		objects = append(objects, object)
	}
}

// reader gathers what one Read finds.
type reader struct {
	source   string
	visit    func(Object)
	problems []twin.Problem
	count    int
	full     bool
}

func (r *reader) problem(where, what, remedy string) {
	if where == "" {
		where = r.source
	}
	r.problems = append(r.problems, twin.Problem{Object: where, What: what, Remedy: remedy})
}

// document is one YAML document and the lines before it.
type document struct {
	text  []byte
	lines int
}

// split cuts a YAML stream at its "---" and "..." lines.
func split(data []byte) []document {
	var docs []document
	start, startLine, line := 0, 0, 0
	for pos := 0; pos < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		text := strings.TrimRight(string(data[pos:end]), "\r\n")
		if text == "---" || strings.HasPrefix(text, "--- ") || text == "..." {
			docs = append(docs, document{data[start:pos], startLine})
			start, startLine = pos+3, line
		}
		pos = end
	}
	docs = append(docs, document{data[start:], startLine})
	kept := docs[:0]
	for _, doc := range docs {
		if len(bytes.TrimSpace(doc.text)) > 0 {
			kept = append(kept, doc)
		}
	}
	return kept
}

// ended reports whether text is one YAML document and no more: the YAML module
// ignores what follows an object in braces.
func ended(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if !bytes.ContainsRune([]byte(`{["'!&`), rune(line[0])) {
			return true // a block goes on to the end
		}
		d := goyaml.NewDecoder(bytes.NewReader(text))
		var first, second any
		return d.Decode(&first) == nil && errors.Is(d.Decode(&second), io.EOF)
	}
	return true
}

const unread = "mend it there; the rest of this document was not read"

func (r *reader) yaml(where string, doc document) {
	data, err := yaml.YAMLToJSONStrict(doc.text)
	if err == nil && !ended(doc.text) {
		err = errors.New("there is more after the end of the object")
	}
	if err == nil {
		r.json(where, data)
		return
	}
	if !r.admit() {
		return
	}
	what := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	r.problem(where, moveLines(strings.Join(strings.Fields(what), " "), doc.lines), unread)
}

// moveLines adds the lines before a document to the line numbers in an error of it.
func moveLines(what string, by int) string {
	return regexp.MustCompile(`\bline \d+`).ReplaceAllStringFunc(what, func(line string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(line, "line "))
		return fmt.Sprintf("line %d", n+by)
	})
}

func (r *reader) json(where string, data []byte) {
	var duplicates any
	strict, err := sjson.UnmarshalStrict(data, &duplicates)
	for _, e := range strict {
		r.problem(where, e.Error(), "keep one of the two; the rest of this document was not read")
	}
	var tree any
	if err == nil {
		exact := json.NewDecoder(bytes.NewReader(data))
		exact.UseNumber()
		err = exact.Decode(&tree)
	}
	switch {
	case err != nil:
		r.problem(where, err.Error(), unread)
	case len(strict) == 0 && tree != nil: // null: a document of comments only
		r.object(where, tree, "", "")
	}
}

// admit counts an object and reports whether it is within MaxObjects.
func (r *reader) admit() bool {
	if r.count++; r.count <= MaxObjects {
		return true
	}
	if !r.full {
		r.problem("", fmt.Sprintf("more than %d objects", MaxObjects), "split it; the rest was not read")
	}
	r.full = true
	return false
}

// object reads one object. apiVersion and kind are what a typed list says of
// its items, which need not repeat it.
func (r *reader) object(where string, v any, apiVersion, kind string) {
	if !r.admit() {
		return
	}
	tree, ok := v.(map[string]any)
	if !ok {
		r.problem(where, "not an object", "write apiVersion, kind, metadata and spec")
		return
	}
	o := Object{Where: where, APIVersion: text(tree, "apiVersion", apiVersion), Kind: text(tree, "kind", kind), Tree: tree}
	if o.APIVersion == "" || o.Kind == "" {
		r.problem(where, "no apiVersion and kind", "write both, such as apiVersion: devices.kubeedge.io/v1beta1 and kind: Device")
		return
	}
	if of, isList := strings.CutSuffix(o.Kind, "List"); isList && tree["metadata"] == nil || isList && tree["items"] != nil {
		if of == "" {
			o.APIVersion = ""
		}
		r.list(where, tree, o.APIVersion, of)
		return
	}
	meta, _ := tree["metadata"].(map[string]any)
	o.Name, o.Namespace = text(meta, "name", ""), text(meta, "namespace", "default")
	tree["apiVersion"], tree["kind"] = o.APIVersion, o.Kind
	if _, present := meta["namespace"]; meta != nil && !present {
		meta["namespace"] = o.Namespace
	}
	r.visit(o)
}

func text(m map[string]any, key, def string) string {
	if s, _ := m[key].(string); s != "" {
		return s
	}
	return def
}

func (r *reader) list(where string, tree map[string]any, apiVersion, kind string) {
	items, ok := tree["items"].([]any)
	if !ok && tree["items"] != nil {
		r.problem(where, "items is not a list", "write a list of objects")
		return
	}
	for i, item := range items {
		if r.full {
			return
		}
		r.object(fmt.Sprintf("%s, items[%d]", where, i), item, apiVersion, kind)
	}
}
