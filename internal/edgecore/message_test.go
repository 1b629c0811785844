package edgecore_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubeedge/kubeedge/edge/pkg/devicetwin/dtcommon"
	"github.com/kubeedge/kubeedge/edge/pkg/devicetwin/dttype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/pkg/twin"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	at     = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	boiler = twin.DeviceID{Namespace: "plant", Name: "boiler"}
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update")
	require.Equal(t, strings.TrimSuffix(string(want), "\n"), string(got))
}

// What EdgeCore reads must be what we meant.
func TestWhatIsSent(t *testing.T) {
	update := edgecore.TwinUpdate("tl-1-1", at, []edgecore.Actual{
		{Name: "temperature", Value: "20.5", Type: "float"},
		{Name: "count", Value: "-3", Type: "int"},
		{Name: "on", Value: "true", Type: "boolean"},
		{Name: "label", Value: "", Type: "string"},
		{Name: "gone"},
	})
	golden(t, "twin-update.json", update)
	seen, err := dttype.UnmarshalDeviceTwinUpdate(update)
	require.NoError(t, err)
	require.Equal(t, "tl-1-1", seen.EventID)
	require.Equal(t, at.UnixMilli(), seen.Timestamp)
	require.Len(t, seen.Twin, 5)
	require.Equal(t, "20.5", *seen.Twin["temperature"].Actual.Value)
	require.Equal(t, "float", seen.Twin["temperature"].Metadata.Type)
	require.NotNil(t, seen.Twin["label"].Actual.Value, "EdgeCore crashes on an actual without a value")
	require.Nil(t, seen.Twin["gone"])

	state := edgecore.StateUpdate("tl-1-2", at, twin.Offline)
	golden(t, "state-update.json", state)
	device, err := dttype.UnmarshalDeviceUpdate(state)
	require.NoError(t, err)
	require.Equal(t, dtcommon.DeviceStatusOffline, device.State)
	for _, s := range []twin.DeviceState{twin.Online, twin.Offline, twin.Unhealthy} {
		require.Contains(t, []string{dtcommon.DeviceStatusOnline, dtcommon.DeviceStatusOffline, dtcommon.DeviceStatusUnhealthy}, string(s))
	}

	get := edgecore.TwinGet("tl-1-3", at)
	golden(t, "twin-get.json", get)
	base, err := dttype.UnmarshalBaseMessage(get)
	require.NoError(t, err)
	require.Equal(t, "tl-1-3", base.EventID)
}

// What EdgeCore writes must be read as it means it.
func TestWhatIsReceived(t *testing.T) {
	base := dttype.BaseMessage{EventID: "e", Timestamp: at.UnixMilli()}
	value, optional := "20.5", true
	msg := &dttype.MsgTwin{
		Actual:   &dttype.TwinValue{Value: &value, Metadata: &dttype.ValueMetadata{Timestamp: at.UnixMilli()}},
		Optional: &optional, Metadata: &dttype.TypeMetadata{Type: "float"},
	}
	want := edgecore.Property{Type: "float", Actual: edgecore.Datum{Value: "20.5", Known: true, Time: at}}

	t.Run("result", func(t *testing.T) {
		b, err := dttype.BuildDeviceTwinResult(base, map[string]*dttype.MsgTwin{"temperature": msg, "gone": nil}, 0)
		require.NoError(t, err)
		golden(t, "twin-result.json", b)
		got, err := edgecore.DecodeResult(b)
		require.NoError(t, err)
		require.Equal(t, edgecore.Result{EventID: "e", Time: at, Twin: map[string]edgecore.Property{"temperature": want}}, got)
	})
	t.Run("error", func(t *testing.T) {
		b, err := dttype.BuildErrorResult(dttype.Parameter{EventID: "e", Code: dtcommon.NotFoundCode, Reason: "not existed"})
		require.NoError(t, err)
		got, err := edgecore.DecodeResult(b)
		require.NoError(t, err)
		require.Equal(t, edgecore.CodeNotFound, got.Code)
		require.Equal(t, "not existed", got.Reason)
		require.Equal(t, "e", got.EventID)
	})
	t.Run("document", func(t *testing.T) {
		b, ok := dttype.BuildDeviceTwinDocument(base, map[string]*dttype.TwinDoc{
			"temperature": {CurrentState: msg}, "gone": {LastState: msg},
		})
		require.True(t, ok)
		golden(t, "twin-document.json", b)
		got, err := edgecore.DecodeDocument(b)
		require.NoError(t, err)
		require.Equal(t, map[string]edgecore.Property{"temperature": want}, got.Current)
		require.Equal(t, map[string]edgecore.Property{"gone": want}, got.Last)
	})
	t.Run("state", func(t *testing.T) {
		b, err := dttype.BuildDeviceCloudMsgState(base, dttype.Device{Name: "boiler", State: "online", LastOnline: "2026-01-02T03:04:05Z"})
		require.NoError(t, err)
		golden(t, "state-result.json", b)
		got, err := edgecore.DecodeStateResult(b)
		require.NoError(t, err)
		require.Equal(t, twin.Online, got)
	})
	t.Run("membership", func(t *testing.T) {
		b, err := dttype.BuildMembershipGetResult(base, []*dttype.Device{{ID: "plant/boiler", Name: "boiler"}, {ID: "old style"}})
		require.NoError(t, err)
		golden(t, "membership-get-result.json", b)
		got, err := edgecore.DecodeMembership(b)
		require.NoError(t, err)
		require.Equal(t, edgecore.Membership{Devices: []twin.DeviceID{boiler}, Foreign: 1}, got)

		b, err = dttype.MarshalMembershipUpdate(dttype.MembershipUpdate{
			BaseMessage: base,
			AddDevices:  []dttype.Device{{ID: "plant/boiler", Name: "boiler"}},
		})
		require.NoError(t, err)
		golden(t, "membership-updated.json", b)
		got, err = edgecore.DecodeMembership(b)
		require.NoError(t, err)
		require.Equal(t, edgecore.Membership{Added: []twin.DeviceID{boiler}}, got)
	})
}

func TestTopicsAreEdgeCores(t *testing.T) {
	id := dtcommon.DeviceETPrefix + "plant/boiler"
	require.Equal(t, id+dtcommon.TwinETUpdateSuffix, edgecore.TwinUpdateTopic(boiler))
	require.Equal(t, id+dtcommon.TwinETUpdateResultSuffix, edgecore.TwinUpdateResultTopic(boiler))
	require.Equal(t, id+dtcommon.TwinETDocumentSuffix, edgecore.TwinDocumentTopic(boiler))
	require.Equal(t, id+dtcommon.TwinETDeltaSuffix, edgecore.TwinDeltaTopic(boiler))
	require.Equal(t, id+dtcommon.TwinETGetSuffix, edgecore.TwinGetTopic(boiler))
	require.Equal(t, id+dtcommon.TwinETGetResultSuffix, edgecore.TwinGetResultTopic(boiler))
	require.Equal(t, id+dtcommon.DeviceETStateUpdateSuffix, edgecore.StateUpdateTopic(boiler))
	require.Equal(t, id+dtcommon.DeviceETStateUpdateResultSuffix, edgecore.StateUpdateResultTopic(boiler))
	require.Equal(t, dtcommon.DeviceETPrefix+dtcommon.TwinETUpdateResultSuffix, edgecore.NoDeviceResultTopic)
	node := dtcommon.MemETPrefix + "n1"
	require.Equal(t, node+dtcommon.MemETUpdateSuffix, edgecore.MembershipUpdatedTopic("n1"))
	require.Equal(t, node+dtcommon.MemETGetSuffix, edgecore.MembershipGetTopic("n1"))
	require.Equal(t, node+dtcommon.MemETGetResultSuffix, edgecore.MembershipGetResultTopic("n1"))

	for _, topic := range []string{edgecore.TwinUpdateTopic(boiler), edgecore.StateUpdateResultTopic(boiler)} {
		got, ok := edgecore.DeviceOfTopic(topic)
		require.True(t, ok)
		require.Equal(t, boiler, got)
	}
	for _, topic := range []string{edgecore.NoDeviceResultTopic, "$hw/events/device/plant", "$hw/events/node/n1/membership/updated", "a/b"} {
		_, ok := edgecore.DeviceOfTopic(topic)
		require.False(t, ok, topic)
	}
}

// The constants of error codes and bounds are KubeEdge's.
func TestBoundsAreEdgeCores(t *testing.T) {
	require.EqualValues(t, dtcommon.BadRequestCode, edgecore.CodeBadRequest)
	require.EqualValues(t, dtcommon.NotFoundCode, edgecore.CodeNotFound)
	require.EqualValues(t, dtcommon.ConflictCode, edgecore.CodeConflict)
	require.EqualValues(t, dtcommon.InternalErrorCode, edgecore.CodeInternal)
	for c := range 256 {
		s := string([]byte{byte(c)})
		require.Equal(t, dtcommon.ValidateTwinKey(s), edgecore.ValidName(s), "%q", s)
		require.Equal(t, dtcommon.ValidateTwinValue(s), edgecore.ValidValue(s), "%q", s)
	}
	for _, n := range []int{0, edgecore.MaxName, edgecore.MaxName + 1} {
		require.Equal(t, dtcommon.ValidateTwinKey(strings.Repeat("x", n)), edgecore.ValidName(strings.Repeat("x", n)), n)
	}
	for _, n := range []int{1, edgecore.MaxValue, edgecore.MaxValue + 1} {
		require.Equal(t, dtcommon.ValidateTwinValue(strings.Repeat("x", n)), edgecore.ValidValue(strings.Repeat("x", n)), n)
	}
	require.True(t, edgecore.ValidValue(""), "EdgeCore does not check the empty value")
}

func TestEncode(t *testing.T) {
	for text, want := range map[string]string{
		"":               "",
		"plain-1.5_,:/@": "plain-1.5_,:/@",
		"#1":             "#1",
		"20 %":           "#:20#20#25",
		"#:x":            "#:#23:x",
		"#b64:x":         "#:#23b64:x",
		"a+b=":           "#:a#2bb#3d",
		"温度过高":           "#b64:5rip5bqm6L-H6auY",
	} {
		got, err := edgecore.Encode(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, edgecore.Decode(got))
	}
	_, err := edgecore.Encode(strings.Repeat("é", 190))
	require.NoError(t, err, "380 bytes of any text fit")
	_, err = edgecore.Encode(strings.Repeat("é", 191))
	require.ErrorIs(t, err, edgecore.ErrValue)
	_, err = edgecore.Encode(strings.Repeat("x", 512))
	require.NoError(t, err)
	_, err = edgecore.Encode(strings.Repeat("x", 513))
	require.ErrorIs(t, err, edgecore.ErrValue)
	for _, foreign := range []string{"#:#2", "#:#zz", "#b64:!", "#b64:_w", "#:#ff", "x"} {
		require.Equal(t, foreign, edgecore.Decode(foreign), "what others write stays")
	}
}

func TestEncodeValue(t *testing.T) {
	for _, c := range []struct {
		typ  twin.Type
		v    twin.Value
		want string // "!": does not fit
	}{
		{twin.TypeInt, twin.IntValue(-5), "-5"},
		{twin.TypeInt, twin.UintValue(1 << 63), "!"},
		{twin.TypeInt, twin.FloatValue(1.5), "!"},
		{twin.TypeDouble, twin.FloatValue(1e21), "1000000000000000000000"},
		{twin.TypeFloat, twin.FloatValue(-1e-7), "-0.0000001"},
		{twin.TypeFloat, twin.IntValue(3), "3"},
		{twin.TypeFloat, twin.StringValue("3"), "!"},
		{twin.TypeBoolean, twin.BoolValue(true), "true"},
		{twin.TypeBoolean, twin.IntValue(1), "!"},
		{twin.TypeString, twin.StringValue("a b"), "#:a#20b"},
		{twin.TypeBytes, twin.StringValue("AA=="), "#:AA#3d#3d"},
		{twin.TypeString, twin.Value{}, "!"},
	} {
		got, err := edgecore.EncodeValue(c.typ, c.v)
		if c.want == "!" {
			require.ErrorIs(t, err, edgecore.ErrValue, "%s of %s", c.v, c.typ)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

// accepts is what EdgeCore checks of a new property.
func accepts(t require.TestingT, message []byte) {
	seen, err := dttype.UnmarshalDeviceTwinUpdate(message)
	require.NoError(t, err)
	for name, p := range seen.Twin {
		if p == nil {
			continue
		}
		require.NotNil(t, p.Metadata, name)
		require.NotNil(t, p.Actual, name)
		require.NotNil(t, p.Actual.Value, name)
		require.NoError(t, dtcommon.ValidateValue(p.Metadata.Type, *p.Actual.Value), "%s %q", name, *p.Actual.Value)
	}
}

func genValue() *rapid.Generator[twin.Value] {
	return rapid.OneOf(
		rapid.Map(rapid.Bool(), twin.BoolValue),
		rapid.Map(rapid.Int64(), twin.IntValue),
		rapid.Map(rapid.Uint64(), twin.UintValue),
		rapid.Map(rapid.Float64(), twin.FloatValue),
		rapid.Map(rapid.StringN(0, -1, 700), twin.StringValue),
	)
}

// Whatever a device shows: EdgeCore accepts what we make of it, and texts come back.
func TestEverythingSentIsAccepted(t *testing.T) {
	types := []twin.Type{twin.TypeInt, twin.TypeFloat, twin.TypeDouble, twin.TypeBoolean, twin.TypeString, twin.TypeBytes}
	rapid.Check(t, func(t *rapid.T) {
		var actuals []edgecore.Actual
		for i := range rapid.IntRange(0, 8).Draw(t, "n") {
			typ := rapid.SampledFrom(types).Draw(t, "type")
			v := genValue().Draw(t, "value")
			text, err := edgecore.EncodeValue(typ, v)
			if err != nil {
				require.ErrorIs(t, err, edgecore.ErrValue)
				continue
			}
			if edgecore.TypeOf(typ) == "string" {
				require.Equal(t, v.Text(), edgecore.Decode(text))
			} else {
				require.Equal(t, v.Text(), text)
			}
			actuals = append(actuals, edgecore.Actual{Name: fmt.Sprint("p", i), Value: text, Type: edgecore.TypeOf(typ)})
		}
		accepts(t, edgecore.TwinUpdate("tl-1-1", at, actuals))
	})
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a b", "#:", "#b64:", "温", "\x00", strings.Repeat("#", 171)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text, _ = twin.StringValue(text).AsString()
		got, err := edgecore.Encode(text)
		if err != nil {
			require.Greater(t, len(text), 380)
			return
		}
		require.True(t, got == "" || dtcommon.ValidateTwinValue(got))
		require.Equal(t, text, edgecore.Decode(got))
	})
}

// Decode never fails, and never makes of a foreign text what Encode writes otherwise.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "#:#20", "#b64:YQ", "#b64:YR", "#:#2", "#:%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) { edgecore.Decode(value) })
}

// The decoders end without a panic, and agree with EdgeCore's own types on what is a message.
func FuzzDecoders(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	for _, s := range []string{`{`, `null`, `[]`, `{"twin":{"a":null}}`, `{"twin":{"a":{"actual":{}}}}`, `{"code":404}`, `{"devices":[{"id":"a/b"},{}]}`, `{"twin":{"a":{"last":null}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := edgecore.DecodeResult(b)
		if _, theirs := dttype.UnmarshalDeviceTwinUpdate(b); theirs == nil {
			require.NoError(t, err)
		}
		_, err = edgecore.DecodeDocument(b)
		if _, theirs := dttype.UnmarshalDeviceTwinDocument(b); theirs == nil {
			require.NoError(t, err)
		}
		_, _ = edgecore.DecodeStateResult(b)
		_, err = edgecore.DecodeMembership(b)
		_, update := dttype.UnmarshalMembershipUpdate(b)
		_, detail := dttype.UnmarshalMembershipDetail(b)
		if update == nil && detail == nil {
			require.NoError(t, err)
		}
	})
}

func TestDecodersAreBounded(t *testing.T) {
	long := []byte(`{"reason":"` + strings.Repeat("x", edgecore.MaxMessage) + `"}`)
	_, err := edgecore.DecodeResult(long)
	require.ErrorContains(t, err, "at most")
	fits := []byte(`{"reason":"` + strings.Repeat("x", edgecore.MaxMessage-13) + `"}`)
	require.Len(t, fits, edgecore.MaxMessage)
	_, err = edgecore.DecodeResult(fits)
	require.NoError(t, err)
}

func TestNamespacesThatEdgeCoreLoses(t *testing.T) {
	for _, ns := range []string{"dev", "device", "events", "e", "hw"} {
		require.Error(t, edgecore.CheckDevice(twin.DeviceID{Namespace: ns, Name: "a"}), ns)
	}
	require.NoError(t, edgecore.CheckDevice(boiler))
	require.NoError(t, edgecore.CheckDevice(twin.DeviceID{Namespace: "devices", Name: "a"}))
}
