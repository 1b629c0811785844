package rule

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

const coolBoiler = `
apiVersion: twinline.io/v1alpha1
kind: Reaction
metadata: {name: cool-boiler}
spec:
  inputs:
    temp: {device: boiler, property: temperature, maxAge: 10s}
    armed: {device: plant/panel, property: armed, type: bool}
  when: temp > 80 && armed
  until: temp < 70.0
  for: 5s
  then:
  - {device: default/pump, property: "on", value: true, priority: 4, ttl: 30s}
  - {device: default/pump, property: speed, valueExpr: "math.least(100.0, (temp - 80.0) * 10.0)"}
`

func boiler() twin.DeviceID { return twin.DeviceID{Namespace: "default", Name: "boiler"} }

func one(t *testing.T, text string) *Rule {
	t.Helper()
	set, problems := Decode("f.yaml", []byte(text))
	require.Empty(t, problems)
	require.Len(t, set.Rules, 1)
	return set.Rules[0]
}

func TestDecode(t *testing.T) {
	r := one(t, coolBoiler)
	require.Equal(t, "default/cool-boiler", r.Name)
	require.Equal(t, "reactor/default/cool-boiler", r.Claimant())
	require.Equal(t, []Input{
		{Name: "armed", Device: twin.DeviceID{Namespace: "plant", Name: "panel"}, Property: "armed", Type: Bool, MaxAge: time.Minute},
		{Name: "temp", Device: boiler(), Property: "temperature", Type: Double, MaxAge: 10 * time.Second},
	}, r.Inputs)
	require.Len(t, r.Actions, 2)
	require.Equal(t, 4, r.Actions[0].Priority)
	require.Equal(t, 30*time.Second, r.Actions[0].TTL)
	require.Equal(t, twin.DefaultPriority, r.Actions[1].Priority)
	require.Equal(t, DefaultTTL, r.Actions[1].TTL)
	require.True(t, r.Same(one(t, coolBoiler+"# a comment\n")))
	require.False(t, r.Same(one(t, strings.Replace(coolBoiler, "70.0", "71.0", 1))))
	require.False(t, r.Same(one(t, strings.Replace(coolBoiler, "name: cool-boiler", "name: other", 1))))
}

func TestTablesFitTheirStructs(t *testing.T) { require.NoError(t, Table().Check(&spec{})) }

func TestMistakes(t *testing.T) {
	for name, test := range map[string]struct{ from, to, want string }{
		"version":           {"v1alpha1", "v1", "apiVersion: twinline.io/v1 is of another version; write twinline.io/v1alpha1"},
		"name":              {"cool-boiler", strings.Repeat("x", 64), "metadata.name: \"" + strings.Repeat("x", 64) + "\" is not a name for a Reaction; use lower-case letters, digits and hyphens, at most 63"},
		"unknown key":       {"  when:", "  wen: x\n  when:", "spec.wen: unknown key; did you mean when?"},
		"no when":           {"  when: temp > 80 && armed\n", "", "spec.when: missing; write a text, such as temp > 80.0"},
		"no then":           {"  then:\n", "  x-then:\n", ""},
		"unknown input":     {"temp > 80", "temperature > 80", `spec.when: "temperature > 80 && armed", column 1: undeclared reference to 'temperature'; declare it under inputs, or: known are armed, temp`},
		"misspelt input":    {"temp > 80", "tmp > 80", `spec.when: "tmp > 80 && armed", column 1: undeclared reference to 'tmp'; declare it under inputs, or: did you mean temp?`},
		"types":             {"temp > 80", "temp * 2 > 80", `spec.when: "temp * 2 > 80 && armed", column 6: found no matching overload for '_*_' applied to '(double, int)'; calculate with one type: 2.0 beside an input of the type double, 2 beside an int; and compare like with like`},
		"not a condition":   {"temp > 80 && armed", "temp", `spec.when: "temp" gives double, not true or false; write a comparison, such as temp > 80.0`},
		"not a value":       {"math.least(100.0, (temp - 80.0) * 10.0)", "[temp]", `spec.then[1].valueExpr: "[temp]" gives list(double), which no property takes; write an expression that gives a boolean, a number or a text`},
		"syntax":            {"temp > 80 && armed", "temp > && armed", ""},
		"macros":            {"temp > 80 && armed", "temp > 80.0 && [1].all(x, x > 0) && armed", ""},
		"unused":            {"temp > 80 && armed", "temp > 80", "spec.inputs.armed: no expression uses it, yet the rule would wait for it; remove it, or use it"},
		"odd input":         {"    armed:", "    in:", `spec.inputs.in: not a name that an expression can have; begin with a letter, go on with letters, digits and _, and use no word of CEL`},
		"odd device":        {"device: boiler", "device: Boiler", `spec.inputs.temp.device: device id "default/Boiler": "Boiler" is not a Kubernetes object name; write namespace/name of a Device, such as default/boiler`},
		"type of input":     {"type: bool", "type: boolean", `spec.inputs.armed.type: "boolean" is not one of its values; known are double, int, bool, string`},
		"short age":         {"maxAge: 10s", "maxAge: 10ms", `spec.inputs.temp.maxAge: 10ms is out of range; use 100ms to 24h`},
		"short ttl":         {"ttl: 30s", "ttl: 4s", `spec.then[0].ttl: 4s is out of range; use 5s to 24h`},
		"priority":          {"priority: 4", "priority: 17", `spec.then[0].priority: 17 is out of range; use 1 to 16`},
		"no value":          {"value: true, ", "", `spec.then[0].value: missing; write value, or valueExpr`},
		"two values":        {"value: true", "value: true, valueExpr: armed", `spec.then[0]: both value and valueExpr; keep one of them`},
		"the same property": {"property: speed", `property: "on"`, `spec.then[1]: sets the same property as spec.then[0]; keep one of them`},
		"a key of the root": {"spec:", "sepc: {}\nspec:", `sepc: unknown key; did you mean spec?`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, coolBoiler, test.from)
			set, problems := Decode("f", []byte(strings.Replace(coolBoiler, test.from, test.to, 1)+"---"+strings.Replace(coolBoiler, "cool-boiler", "other", 1)))
			require.Len(t, set.Rules, 1, "the other rule is not touched")
			require.Len(t, set.Wrong, 1)
			require.NotEmpty(t, problems)
			for _, p := range problems {
				require.True(t, strings.HasPrefix(p.Object, "Reaction default/"), p.Object)
				require.NotEmpty(t, p.Remedy)
			}
			if test.want != "" {
				require.Len(t, problems, 1)
				require.Equal(t, test.want, problems[0].Field+": "+problems[0].What+"; "+problems[0].Remedy)
			}
		})
	}
}

func TestUnreadableFileIsPartial(t *testing.T) {
	set, problems := Decode("f", []byte(coolBoiler+"---\na: [\n"))
	require.True(t, set.Partial)
	require.Len(t, problems, 1)
	require.Len(t, set.Rules, 1)
	set, _ = Decode("f", []byte("apiVersion: v1\nkind: Pod\n"))
	require.Equal(t, Set{Skipped: 1}, set)
}

// plant is a set of readings with a clock.
type plant struct {
	now      time.Time
	readings map[string]Reading
}

func newPlant() *plant {
	return &plant{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), readings: map[string]Reading{}}
}

func (p *plant) set(device, property string, v twin.Value, q twin.Quality) {
	p.readings[device+" "+property] = Reading{v, q, p.now, p.now}
}

func (p *plant) lookup(id twin.DeviceID, property string) (Reading, bool) {
	r, ok := p.readings[id.String()+" "+property]
	return r, ok
}

func (p *plant) temp(f float64) {
	p.set("default/boiler", "temperature", twin.FloatValue(f), "")
	p.set("plant/panel", "armed", twin.BoolValue(true), "")
}

func TestMachineHoldsAfterForAndReleasesAtUntil(t *testing.T) {
	p, m := newPlant(), NewMachine(one(t, coolBoiler), false, time.Time{})
	s := m.Step(p.now, p.lookup)
	require.Equal(t, Idle, s.Phase)
	require.Equal(t, "armed: no reading of plant/panel armed yet", s.Undecided)
	require.True(t, s.Wake.IsZero())

	p.temp(81)
	s = m.Step(p.now, p.lookup)
	require.Equal(t, Waiting, s.Phase)
	require.Empty(t, s.Undecided)
	require.Equal(t, p.now.Add(5*time.Second), s.Wake)
	p.now = s.Wake.Add(-time.Millisecond)
	require.Equal(t, Waiting, m.Step(p.now, p.lookup).Phase)
	p.now = p.now.Add(time.Millisecond)
	s = m.Step(p.now, p.lookup)
	require.Equal(t, Holding, s.Phase)
	require.Equal(t, p.now, s.Since)
	require.Equal(t, []twin.Value{twin.BoolValue(true), twin.FloatValue(10)}, s.Values)

	p.temp(75) // neither when nor until: hysteresis
	s = m.Step(p.now, p.lookup)
	require.Equal(t, Holding, s.Phase)
	require.Equal(t, twin.FloatValue(-50), s.Values[1])
	p.temp(69)
	s = m.Step(p.now, p.lookup)
	require.Equal(t, Idle, s.Phase)
	require.Nil(t, s.Values)
}

func TestMachineForStartsAnewAfterABreak(t *testing.T) {
	for name, breaks := range map[string]func(*plant){
		"false": func(p *plant) { p.temp(79) },
		"bad":   func(p *plant) { p.set("default/boiler", "temperature", twin.Value{}, twin.Bad("timeout")) },
		"stale": func(p *plant) { p.now = p.now.Add(11 * time.Second) },
		"text":  func(p *plant) { p.set("default/boiler", "temperature", twin.StringValue("hot"), "") },
	} {
		t.Run(name, func(t *testing.T) {
			p, m := newPlant(), NewMachine(one(t, coolBoiler), false, time.Time{})
			p.temp(81)
			m.Step(p.now, p.lookup)
			p.now = p.now.Add(4 * time.Second)
			breaks(p)
			s := m.Step(p.now, p.lookup)
			require.Equal(t, Idle, s.Phase)
			require.Equal(t, name != "false", s.Undecided != "")
			p.now = p.now.Add(time.Second)
			p.temp(81)
			require.Equal(t, Waiting, m.Step(p.now, p.lookup).Phase)
			p.now = p.now.Add(5 * time.Second)
			require.Equal(t, Holding, m.Step(p.now, p.lookup).Phase)
		})
	}
}

func TestMachineUndecidedWhileHolding(t *testing.T) {
	for policy, want := range map[string]Phase{"hold": Holding, "release": Idle} {
		p, m := newPlant(), NewMachine(one(t, strings.Replace(coolBoiler, "  for: 5s", "  undecided: "+policy, 1)), false, time.Time{})
		p.temp(82)
		s := m.Step(p.now, p.lookup)
		require.Equal(t, Holding, s.Phase)
		require.Equal(t, p.now.Add(10*time.Second+time.Millisecond), s.Wake, "when the first input grows stale")
		p.now = s.Wake
		s = m.Step(p.now, p.lookup)
		require.Equal(t, want, s.Phase)
		require.Equal(t, "temp is older than 10s", s.Undecided)
		if want == Holding {
			require.Equal(t, twin.FloatValue(20), s.Values[1], "the last value stays")
		}
	}
}

func TestMachineTakesUpWhereItWas(t *testing.T) {
	p := newPlant()
	m := NewMachine(one(t, coolBoiler), true, p.now.Add(-time.Hour))
	s := m.Step(p.now, p.lookup)
	require.Equal(t, Holding, s.Phase)
	require.Equal(t, twin.BoolValue(true), s.Values[0])
	require.True(t, s.Values[1].IsZero(), "not known yet")
	p.temp(60)
	require.Equal(t, Idle, m.Step(p.now, p.lookup).Phase)
}

func TestMachineAgeByBothClocks(t *testing.T) {
	r := Reading{Sampled: time.Unix(1000, 0), Received: time.Unix(500, 0)}
	require.Equal(t, 10*time.Second, r.age(time.Unix(510, 0)), "the mapper's clock is ahead")
	r = Reading{Sampled: time.Unix(500, 0), Received: time.Unix(1000, 0)}
	require.Equal(t, 510*time.Second, r.age(time.Unix(1010, 0)), "it was kept back on the way")
}

func TestFaultsAtRunTime(t *testing.T) {
	text := strings.NewReplacer("temp > 80 && armed", "armed && 10 / int(temp) > 0", "math.least(100.0, (temp - 80.0) * 10.0)", "1.0 / (temp - 1.0)", "  for: 5s\n", "").Replace(coolBoiler)
	p, m := newPlant(), NewMachine(one(t, text), false, time.Time{})
	p.temp(0)
	s := m.Step(p.now, p.lookup)
	require.Equal(t, Idle, s.Phase)
	require.Contains(t, s.Undecided, "division by zero")
	p.temp(1)
	s = m.Step(p.now, p.lookup)
	require.Equal(t, Holding, s.Phase)
	require.Len(t, s.Faults, 1)
	require.True(t, s.Values[1].IsZero())
}

func TestNumbersCompareAcrossTypes(t *testing.T) {
	text := `{"apiVersion":"twinline.io/v1alpha1","kind":"Reaction","metadata":{"name":"r"},"spec":{"inputs":{"n":{"device":"d","property":"p","type":"int"}},"when":"%s","then":[{"device":"d","property":"q","value":9007199254740993}]}}`
	for when, want := range map[string]bool{"n > 0.5": true, "n == 18014398509481985": true, "n == 18014398509481984": false, "string(n).endsWith('5')": true, "n > 1u": true} {
		r := one(t, fmt.Sprintf(text, when))
		m := NewMachine(r, false, time.Time{})
		p := newPlant()
		p.set("default/d", "p", twin.IntValue(18014398509481985), "")
		s := m.Step(p.now, p.lookup)
		require.Equal(t, want, s.Phase == Holding, when)
		if want {
			require.Equal(t, twin.IntValue(9007199254740993), s.Values[0])
		}
	}
}

func TestCostIsBounded(t *testing.T) {
	text := strings.Replace(coolBoiler, "temp > 80 && armed", "armed && temp > 80.0 && "+strings.Repeat("s.matches('a*a*a*b') || ", 60)+"false", 1)
	text = strings.Replace(text, "    armed:", "    s: {device: d, property: s, type: string}\n    armed:", 1)
	p, m := newPlant(), NewMachine(one(t, text), false, time.Time{})
	p.temp(81)
	p.set("default/d", "s", twin.StringValue(strings.Repeat("a", twin.MaxStringValue)), "")
	require.Contains(t, m.Step(p.now, p.lookup).Undecided, "cost limit")
}

func TestCheckAgainstDevices(t *testing.T) {
	r := one(t, coolBoiler)
	pump := twin.Device{ID: twin.DeviceID{Namespace: "default", Name: "pump"}, Properties: []twin.Property{
		{Name: "on", Type: twin.TypeBoolean, Writable: true}, {Name: "speed", Type: twin.TypeFloat, Writable: true},
	}}
	hot := twin.Device{ID: boiler(), Properties: []twin.Property{{Name: "temperature", Type: twin.TypeFloat}}}
	problems, unknown := r.Check([]twin.Device{pump, hot})
	require.Empty(t, problems)
	require.Equal(t, []twin.DeviceID{{Namespace: "plant", Name: "panel"}}, unknown)
	pump.Properties = []twin.Property{{Name: "on", Type: twin.TypeInt, Writable: true, Maximum: twin.IntValue(0)}, {Name: "speed", Type: twin.TypeFloat}}
	hot.Properties[0].Type = twin.TypeString
	problems, _ = r.Check([]twin.Device{pump, hot})
	var said []string
	for _, p := range problems {
		said = append(said, p.Field+": "+p.What)
	}
	require.Equal(t, []string{"spec.inputs.temp.type: double, but the property is STRING", `spec.then[0].value: "true" is not an integer of 64 bits`, `spec.then[1].property: "speed" is ReadOnly`}, said)
	hot.Properties[0].Name = "temperatur"
	problems, _ = r.Check([]twin.Device{hot})
	require.Equal(t, "did you mean temperatur?", problems[0].Remedy)
}

// TestCustomResourceSaysTheSame compares the keys of the CRD with the table.
func TestCustomResourceSaysTheSame(t *testing.T) {
	data, err := os.ReadFile("../../crds/twinline.io_reactions.yaml")
	require.NoError(t, err)
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema struct{ Properties map[string]openAPI }
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(data, &crd))
	s := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	sameKeys(t, "spec", Table(), &s)
}

type openAPI struct {
	Properties           map[string]openAPI
	Required             []string
	Enum                 []string
	Items                *openAPI
	AdditionalProperties *openAPI
	Description          string
	MaxItems             int
	MaxProperties        int
}

func sameKeys(t *testing.T, path string, table *schema.Table, o *openAPI) {
	t.Helper()
	require.NotNil(t, o, path)
	require.Len(t, o.Properties, len(table.Fields), path)
	for i := range table.Fields {
		f := &table.Fields[i]
		at := path + "." + f.Key
		p, ok := o.Properties[f.Key]
		require.True(t, ok, at)
		require.NotEmpty(t, p.Description, at)
		require.Equal(t, f.Required, slices.Contains(o.Required, f.Key), at)
		require.ElementsMatch(t, f.Enum, p.Enum, at)
		switch f.Kind {
		case schema.Map:
			require.Equal(t, f.Max, p.MaxProperties, at)
			sameKeys(t, at, f.Item.Table, p.AdditionalProperties)
		case schema.List:
			require.Equal(t, f.Max, p.MaxItems, at)
			sameKeys(t, at, f.Item.Table, p.Items)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(coolBoiler), 81.0)
	f.Add([]byte(strings.Replace(coolBoiler, "temp > 80", "string(temp) + 'x' == 'y' || 1/0 > 0", 1)), 0.0)
	f.Add([]byte(strings.Replace(coolBoiler, "temp > 80", "temp.all(x, x)", 1)), 0.0)
	f.Fuzz(func(t *testing.T, data []byte, temp float64) {
		set, problems := Decode("f", data)
		for _, p := range problems {
			require.NotEmpty(t, p.What)
			require.NotEmpty(t, p.Remedy)
		}
		require.Equal(t, len(set.Wrong) > 0 || set.Partial, len(problems) > 0)
		p := newPlant()
		p.temp(temp)
		for _, r := range set.Rules {
			require.LessOrEqual(t, len(r.Claimant()), 256)
			m := NewMachine(r, false, time.Time{})
			for range 3 {
				s := m.Step(p.now, p.lookup)
				require.Equal(t, s.Phase == Holding, len(s.Values) > 0)
				p.now = p.now.Add(time.Hour)
			}
		}
	})
}
