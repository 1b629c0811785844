package desk

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kubeedge/kubeedge/edge/pkg/devicetwin/dtcommon"
	"github.com/kubeedge/kubeedge/edge/pkg/devicetwin/dttype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// FuzzParse holds the desk's reading of a twin/update against KubeEdge's own code.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"event_id":"e","timestamp":1,"twin":{"a":{"actual":{"value":"1","metadata":{"timestamp":5}},"metadata":{"type":"int"}}}}`,
		`{"twin":{"a":{"actual":{"value":""}}}}`,
		`{"twin":{"a":{"actual":{}}}}`,
		`{"twin":{"a":null}}`,
		`{"twin":{"a b":{"actual":{"value":"1"}}}}`,
		`{"twin":{"a":{"actual":{"value":"1e+06"}}}}`,
		`{"twin":{"a":{"expected":{"value":"°"}}}}`,
		`{"twin":{}}`, `{"twin":null}`, `{}`, `[]`, ``, `{"twin":{"a":{"actual":{"value":1}}}}`,
	} {
		f.Add([]byte(seed))
	}
	check := newChecker()
	f.Fuzz(func(t *testing.T, payload []byte) {
		ours, err := check.parse(payload)
		theirs, theirErr := dttype.UnmarshalDeviceTwinUpdate(payload)
		if theirErr != nil {
			require.Error(t, err, "%s", payload)
			if len(theirs.Twin) <= 1 { // of several mistakes either may be met first
				require.EqualError(t, err, theirErr.Error(), "%s", payload)
			}
			return
		}
		require.NoError(t, err, "%s", payload)
		a, err := json.Marshal(ours.Twin)
		require.NoError(t, err)
		var again map[string]*dttype.MsgTwin
		require.NoError(t, json.Unmarshal(a, &again))
		require.Len(t, again, len(theirs.Twin))
		require.Equal(t, theirs.EventID, ours.EventID)
	})
}

func TestTypesAreCheckedAsEdgeCoreDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"", "string", "int", "integer", "float", "boolean", "deleted", "double", "bytes", "INT"}).Draw(t, "type")
		value := rapid.OneOf(rapid.SampledFrom([]string{"", "true", "false", "True", "1", "-1", "1.5", "1e6", "NaN", "inf", "9223372036854775808", " 1"}), rapid.String()).Draw(t, "value")
		ours, theirs := checkType(kind, value), dtcommon.ValidateValue(kind, value)
		if (ours == nil) != (theirs == nil) || (ours != nil && ours.Error() != theirs.Error()) {
			t.Fatalf("%q as %q: %v, EdgeCore says %v", value, kind, ours, theirs)
		}
	})
}

func TestAlphabetIsEdgeCores(t *testing.T) {
	check := newChecker()
	for _, s := range []string{"a", "a b", strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("x", 512), strings.Repeat("x", 513), "é", "a\n", "+", "#:20"} {
		require.Equal(t, dtcommon.ValidateTwinKey(s), check.key.MatchString(s), "%.20q", s)
		require.Equal(t, dtcommon.ValidateTwinValue(s), check.value.MatchString(s), "%.20q", s)
	}
}
