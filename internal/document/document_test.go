package document

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		data     string
		want     []string
		problems []string
	}{
		"several":     {"kind: A\napiVersion: g/v1\nmetadata: {name: a}\n--- # next\nkind: B\napiVersion: v1\nmetadata: {name: b, namespace: x}\n...\n", []string{"f|g|A|default/a", "f, document 2||B|x/b"}, nil},
		"typed list":  {`{"apiVersion":"g/v1","kind":"AList","items":[{"metadata":{"name":"a"}},{"kind":"B","metadata":{"name":"b"}}]}`, []string{"f, items[0]|g|A|default/a", "f, items[1]|g|B|default/b"}, nil},
		"list":        {"apiVersion: v1\nkind: List\nitems: [{apiVersion: g.io, kind: A}, 3]\n", []string{"f, items[0]|g.io|A|default/"}, []string{"f, items[1]: not an object; write apiVersion, kind, metadata and spec"}},
		"no list":     {"apiVersion: g/v1\nkind: AccessList\nmetadata: {name: a}\n", []string{"f|g|AccessList|default/a"}, nil},
		"the rest":    {"a: {\n---\nkind: A\napiVersion: g/v1\n---\n# nothing\n", []string{"f, document 2|g|A|default/"}, []string{"f: yaml: line 1: did not find expected node content; mend it there; the rest of this document was not read"}},
		"JSON stream": {`{"kind":"A","apiVersion":"g/v1"}` + "\n" + `{"kind":"B","apiVersion":"g/v1"}`, []string{"f|g|A|default/", "f, document 2|g|B|default/"}, nil},
		"and more":    {"{kind: A, apiVersion: g/v1}\n{kind: B, apiVersion: g/v1}\n", nil, []string{"f: there is more after the end of the object; mend it there; the rest of this document was not read"}},
		"and more, 2": {"# hi\n\n{kind: A, apiVersion: g/v1}\nkind: B\n", nil, []string{"f: there is more after the end of the object; mend it there; the rest of this document was not read"}},
		"in braces":   {"# hi\n{kind: A,\n apiVersion: g/v1}\n\n# end\n", []string{"f|g|A|default/"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got, said []string
			for _, p := range Read("f", []byte(test.data), func(o Object) {
				got = append(got, o.Where+"|"+o.Group()+"|"+o.Kind+"|"+o.Namespace+"/"+o.Name)
			}) {
				said = append(said, p.Error())
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.problems, said)
		})
	}
}

func TestNumbersAreExact(t *testing.T) {
	for _, data := range []string{"apiVersion: v1\nkind: A\nx: 18446744073709551615\n", `{"apiVersion":"v1","kind":"A","x":18446744073709551615}`} {
		require.Empty(t, Read("f", []byte(data), func(o Object) {
			require.Equal(t, json.Number("18446744073709551615"), o.Tree["x"])
		}))
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: g/v1, kind: A, metadata: {name: a}}\n---\na: &a [1]\nb: *a\n"))
	f.Add([]byte(`{"apiVersion":"g/v1","kind":"AList","items":[null,{"metadata":[]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		count := 0
		for _, p := range Read("f", data, func(o Object) {
			count++
			require.NotEmpty(t, o.Kind)
			require.NotEmpty(t, o.Namespace)
		}) {
			require.NotEmpty(t, p.What)
			require.NotEmpty(t, p.Remedy)
		}
		require.LessOrEqual(t, count, MaxObjects)
	})
}
