package declare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/pkg/twin"
)

// Decode reads the objects of a YAML file of one or several documents, or of
// JSON; Lists are read as their items. source names the data in problems. Unknown
// keys, keys given twice and values of a wrong kind are problems: one in
// spec.properties[i] makes that property unusable, one elsewhere the object. Objects of
// other kinds are counted, not read; so is what a Device's status holds beyond
// what v1beta1 declares. An object without a namespace is in "default".
func Decode(source string, data []byte) (Objects, []twin.Problem) {
	d := &fileDecoder{source: source}
	if len(data) > MaxSize {
		d.problem("", fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("split it: at most %d bytes are read at once", MaxSize))
		return d.objects, d.problems
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed) {
		d.json(source, trimmed)
		return d.objects, d.problems
	}
	for i, doc := range split(data) {
		where := source
		if i > 0 {
			where = fmt.Sprintf("%s, document %d", source, i+1)
		}
		d.yaml(where, doc)
		if d.full {
			break
		}
	}
	return d.objects, d.problems
}

// fileDecoder gathers what one Decode finds.
type fileDecoder struct {
	source   string
	objects  Objects
	problems []twin.Problem
	count    int
	full     bool
}

func (d *fileDecoder) problem(where, what, remedy string) {
	if where == "" {
		where = d.source
	}
	d.problems = append(d.problems, twin.Problem{Object: where, What: what, Remedy: remedy})
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

func (d *fileDecoder) yaml(where string, doc document) {
	data, err := yaml.YAMLToJSONStrict(doc.text)
	if err != nil {
		// Once more with the lines that came before, for the right line number.
		if doc.lines > 0 {
			_, err = yaml.YAMLToJSONStrict(append(bytes.Repeat([]byte{'\n'}, doc.lines), doc.text...))
		}
		if !d.admit() {
			return
		}
		what := "not YAML"
		if err != nil {
			what = strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")), " ")
		}
		d.problem(where, what, "mend it there; the rest of this document was not read")
		return
	}
	d.json(where, data)
}

func (d *fileDecoder) json(where string, data []byte) {
	var duplicates any
	strict, err := sjson.UnmarshalStrict(data, &duplicates)
	for _, e := range strict {
		d.problem(where, e.Error(), "keep one of the two; the rest of this document was not read")
	}
	if err != nil {
		d.problem(where, err.Error(), "mend it there; the rest of this document was not read")
	}
	if err != nil || len(strict) > 0 {
		return
	}
	var tree any
	exact := json.NewDecoder(bytes.NewReader(data))
	exact.UseNumber()
	if err := exact.Decode(&tree); err != nil {
		d.problem(where, err.Error(), "mend it there; the rest of this document was not read")
		return
	}
	if tree != nil { // a document of comments only
		d.object(where, tree, "", "")
	}
}

// admit counts an object and reports whether it is within MaxObjects.
func (d *fileDecoder) admit() bool {
	if d.count++; d.count <= MaxObjects {
		return true
	}
	if !d.full {
		d.problem("", fmt.Sprintf("more than %d objects", MaxObjects), "split it; the rest was not read")
	}
	d.full = true
	return false
}

// object reads one object. apiVersion and kind are what a typed list says of
// its items, which need not repeat it.
func (d *fileDecoder) object(where string, v any, apiVersion, kind string) {
	if !d.admit() {
		return
	}
	tree, ok := v.(map[string]any)
	if !ok {
		d.problem(where, "not an object", "write apiVersion, kind, metadata and spec")
		return
	}
	if s, _ := tree["apiVersion"].(string); s != "" {
		apiVersion = s
	}
	if s, _ := tree["kind"].(string); s != "" {
		kind = s
	}
	group, _, _ := strings.Cut(apiVersion, "/")
	switch {
	case apiVersion == "" || kind == "":
		d.problem(where, "no apiVersion and kind", fmt.Sprintf("write apiVersion: %s and kind: Device or DeviceModel", APIVersion))
	case kind == "List" && apiVersion == "v1":
		d.list(where, tree, "", "")
	case group != Group:
		d.objects.Skipped++
	case kind == kindDevice+"List" || kind == kindModel+"List":
		d.list(where, tree, apiVersion, strings.TrimSuffix(kind, "List"))
	case kind != kindDevice && kind != kindModel:
		d.objects.Skipped++
	case apiVersion != APIVersion:
		d.problem(where, fmt.Sprintf("%s %s is of another version", apiVersion, kind), fmt.Sprintf("write it as %s, whose fields differ", APIVersion))
	default:
		tree["apiVersion"], tree["kind"] = apiVersion, kind
		d.declared(where, kind, tree)
	}
}

func (d *fileDecoder) list(where string, tree map[string]any, apiVersion, kind string) {
	items, ok := tree["items"].([]any)
	if !ok && tree["items"] != nil {
		d.problem(where, "items is not a list", "write a list of objects")
		return
	}
	for i, item := range items {
		if d.full {
			return
		}
		d.object(fmt.Sprintf("%s, items[%d]", where, i), item, apiVersion, kind)
	}
}

// declared reads one Device or DeviceModel.
func (d *fileDecoder) declared(where, kind string, tree map[string]any) {
	meta, _ := tree["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	if name == "" {
		d.problem(where, "a "+kind+" without a name", "write metadata.name")
		return
	}
	if ns, _ := meta["namespace"].(string); ns == "" {
		if _, present := meta["namespace"]; !present {
			meta["namespace"] = "default"
		}
	}
	if kind == kindDevice {
		forgetStatus(tree)
		dev := Device{Source: where}
		dev.refused = d.typed(tree, &dev.Object, objectName(kind, meta["namespace"], name))
		exactDevice(&dev.Object, tree)
		d.objects.Devices = append(d.objects.Devices, dev)
		return
	}
	m := Model{Source: where}
	m.refused = d.typed(tree, &m.Object, objectName(kind, meta["namespace"], name))
	exactModel(&m.Object, tree)
	d.objects.Models = append(d.objects.Models, m)
}

func objectName(kind string, namespace any, name string) string {
	ns, _ := namespace.(string)
	return fmt.Sprintf("%s %.63s/%.253s", kind, ns, name)
}

// forgetStatus leaves of a Device's status what v1beta1 declares: older versions
// of KubeEdge kept twins there, which are no declaration.
func forgetStatus(tree map[string]any) {
	status, ok := tree["status"].(map[string]any)
	if !ok {
		delete(tree, "status")
		return
	}
	for key := range status {
		if key != "reportToCloud" && key != "reportCycle" {
			delete(status, key)
		}
	}
}

// typed checks tree against the type of into, strikes out what does not fit, and fills into.
func (d *fileDecoder) typed(tree map[string]any, into any, object string) refusals {
	w := &strict{report: report{object: object}}
	w.root(tree, into)
	data, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil { // metadata of a wrong form, such as a creationTimestamp that is no time
		w.report.problem("", strings.TrimPrefix(err.Error(), "json: "), "mend it; the object was not read")
		w.refused.whole = true
		switch into := into.(type) { // its name is still wanted
		case *v1beta1.Device:
			*into = v1beta1.Device{}
			into.Namespace, into.Name = names(tree)
		case *v1beta1.DeviceModel:
			*into = v1beta1.DeviceModel{}
			into.Namespace, into.Name = names(tree)
		}
	}
	d.problems = append(d.problems, w.report.list()...)
	return w.refused
}

func names(tree map[string]any) (namespace, name string) {
	meta, _ := tree["metadata"].(map[string]any)
	namespace, _ = meta["namespace"].(string)
	name, _ = meta["name"].(string)
	return namespace, name
}
