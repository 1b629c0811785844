// Package rule reads Reactions, type-checks their expressions, and decides when
// one holds. It does no I/O and has no clock: time and readings are given to it.
package rule

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/document"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// The kind this package reads.
const (
	Group      = "twinline.io"
	APIVersion = Group + "/v1alpha1"
	Kind       = "Reaction"
)

// Rule is one Reaction, compiled. It is immutable.
type Rule struct {
	Name    string // "default/cool-boiler"
	Source  string // the file, and which object of it
	Inputs  []Input
	For     time.Duration
	Actions []Action

	// ReleaseUndecided says what becomes of a holding rule that cannot be
	// decided: false, it goes on to hold.
	ReleaseUndecided bool

	spec        string // canonical JSON: equal specs are equal rules
	when, until *expression
}

// Input is one property that a rule reads.
type Input struct {
	Name     string
	Device   twin.DeviceID
	Property string
	Type     Type
	MaxAge   time.Duration // an older reading leaves the rule undecided
}

// Action is one property that a rule claims while it holds.
type Action struct {
	Device   twin.DeviceID
	Property string
	Priority int
	TTL      time.Duration

	value twin.Value  // or
	expr  *expression // what gives it
}

// Claimant is the Source of the rule's commands: "reactor/default/cool-boiler".
func (r *Rule) Claimant() string { return "reactor/" + r.Name }

// Same reports whether two rules say the same.
func (r *Rule) Same(other *Rule) bool { return r.Name == other.Name && r.spec == other.spec }

// Set is what one file holds.
type Set struct {
	Rules   []*Rule
	Wrong   []string // names of the Reactions that are declared wrongly
	Partial bool     // some document could not be read at all
	Skipped int      // objects of other kinds
}

// Decode reads the Reactions of a YAML or JSON file. A Reaction with a mistake
// is left out, with one problem for each mistake; the others are not touched.
func Decode(source string, data []byte) (Set, []twin.Problem) {
	var set Set
	var problems []twin.Problem
	unreadable := document.Read(source, data, func(o document.Object) {
		if o.Group() != Group || o.Kind != Kind {
			set.Skipped++
			return
		}
		c := &compiler{object: fmt.Sprintf("%s %.63s/%.253s", Kind, o.Namespace, o.Name)}
		rule := c.compile(&o)
		if len(c.problems) == 0 {
			set.Rules = append(set.Rules, rule)
		} else {
			set.Wrong = append(set.Wrong, o.Namespace+"/"+o.Name)
		}
		problems = append(problems, c.problems...)
	})
	set.Partial = len(unreadable) > 0
	return set, append(unreadable, problems...)
}

// compiler makes a Rule of an object.
type compiler struct {
	object   string
	problems []twin.Problem
}

func (c *compiler) problem(field, what, remedy string) {
	c.problems = append(c.problems, twin.Problem{Object: c.object, Field: field, What: what, Remedy: remedy})
}

func (c *compiler) compile(o *document.Object) *Rule {
	if o.APIVersion != APIVersion {
		c.problem("apiVersion", fmt.Sprintf("%s is of another version", o.APIVersion), "write "+APIVersion)
		return nil
	}
	// The name is part of each command's source, which is bounded (twin.Command).
	if id := (twin.DeviceID{Namespace: o.Namespace, Name: o.Name}); len(o.Name) > MaxName || !validID(id) {
		c.problem("metadata.name", fmt.Sprintf("%.80q is not a name for a Reaction", o.Name), fmt.Sprintf("use lower-case letters, digits and hyphens, at most %d", MaxName))
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(o.Tree)) {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "spec", "status"}, key) {
			c.problem(schema.Join("", key), "unknown key", schema.Suggest(key, []string{"spec"}))
		}
	}
	tree, ok := o.Tree["spec"].(map[string]any)
	if !ok {
		c.problem("spec", "missing", "write inputs, when and then; see docs/spec/reaction.md")
		return nil
	}
	var s spec
	c.problems = append(c.problems, Table().Decode(c.object, "spec", tree, &s)...)
	if len(c.problems) > 0 {
		return nil
	}
	canonical, _ := json.Marshal(tree) // it came from JSON; keys are sorted
	r := &Rule{Name: o.Namespace + "/" + o.Name, Source: o.Where, For: s.For, ReleaseUndecided: s.Undecided == "release", spec: string(canonical)}
	c.inputs(r, &s, o.Namespace)
	if len(c.problems) > 0 {
		return nil
	}
	c.expressions(r, &s, o.Namespace)
	return r
}

func validID(id twin.DeviceID) bool {
	_, err := twin.ParseDeviceID(id.String())
	return err == nil
}

// device reads a device's id, which may leave out the Reaction's own namespace.
func (c *compiler) device(field, text, namespace string) twin.DeviceID {
	if !strings.Contains(text, "/") {
		text = namespace + "/" + text
	}
	id, err := twin.ParseDeviceID(text)
	if err != nil {
		c.problem(field, err.Error(), "write namespace/name of a Device, such as default/boiler")
	}
	return id
}

func (c *compiler) property(field, name string) {
	if len(name) > twin.MaxPropertyLength {
		c.problem(field, fmt.Sprintf("it has %d characters", len(name)), fmt.Sprintf("use at most %d", twin.MaxPropertyLength))
	}
}

func (c *compiler) inputs(r *Rule, s *spec, namespace string) {
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		in, path := s.Inputs[name], schema.Join("spec.inputs", name)
		if !validIdent(name) {
			c.problem(path, "not a name that an expression can have", "begin with a letter, go on with letters, digits and _, and use no word of CEL")
			continue
		}
		id := c.device(path+".device", in.Device, namespace)
		c.property(path+".property", in.Property)
		age := s.MaxAge
		if in.MaxAge != nil {
			age = *in.MaxAge
		}
		r.Inputs = append(r.Inputs, Input{Name: name, Device: id, Property: in.Property, Type: in.Type, MaxAge: age})
	}
}

func (c *compiler) expressions(r *Rule, s *spec, namespace string) {
	env, err := newEnvironment(r.Inputs)
	if err != nil {
		c.problem("spec.inputs", err.Error(), "use other names for the inputs")
		return
	}
	r.when = c.expression(env, "spec.when", s.When, true)
	if s.Until != "" {
		r.until = c.expression(env, "spec.until", s.Until, true)
	}
	targets := map[string]int{}
	for i, t := range s.Then {
		path := fmt.Sprintf("spec.then[%d]", i)
		a := Action{Device: c.device(path+".device", t.Device, namespace), Property: t.Property, Priority: t.Priority, TTL: t.TTL, value: t.Value}
		c.property(path+".property", t.Property)
		switch {
		case t.ValueExpr != "" && !t.Value.IsZero():
			c.problem(path, "both value and valueExpr", "keep one of them")
		case t.ValueExpr != "":
			a.expr = c.expression(env, path+".valueExpr", t.ValueExpr, false)
		case t.Value.IsZero():
			c.problem(path+".value", "missing", "write value, or valueExpr")
		}
		target := a.Device.String() + " " + a.Property
		if first, twice := targets[target]; twice {
			c.problem(path, fmt.Sprintf("sets the same property as spec.then[%d]", first), "keep one of them")
		}
		targets[target] = i
		r.Actions = append(r.Actions, a)
	}
	if len(c.problems) == 0 {
		c.unused(env, r)
	}
}

func (c *compiler) expression(env *environment, field, text string, condition bool) *expression {
	e, what, remedy := env.compile(text, condition)
	if e == nil {
		c.problem(field, what, remedy)
	}
	return e
}

func (c *compiler) unused(env *environment, r *Rule) {
	for _, in := range r.Inputs {
		if !env.used[in.Name] {
			c.problem(schema.Join("spec.inputs", in.Name), "no expression uses it, yet the rule would wait for it", "remove it, or use it")
		}
	}
}

// Check says which devices and properties of the rule are not as the devices
// declare them. Devices that are not among them are in unknown.
func (r *Rule) Check(devices []twin.Device) (problems []twin.Problem, unknown []twin.DeviceID) {
	c := &compiler{object: Kind + " " + r.Name}
	byID := map[twin.DeviceID]*twin.Device{}
	for i := range devices {
		byID[devices[i].ID] = &devices[i]
	}
	find := func(path string, id twin.DeviceID, name string) (*twin.Property, bool) {
		d, ok := byID[id]
		if !ok {
			if !slices.Contains(unknown, id) {
				unknown = append(unknown, id)
			}
			return nil, false
		}
		p, ok := d.Property(name)
		if !ok {
			var known []string
			for i := range d.Properties {
				known = append(known, d.Properties[i].Name)
			}
			c.problem(path+".property", fmt.Sprintf("%s has no property %q", id, name), schema.Suggest(name, known))
		}
		return p, ok
	}
	for _, in := range r.Inputs {
		path := schema.Join("spec.inputs", in.Name)
		if p, ok := find(path, in.Device, in.Property); ok && !in.Type.takes(p.Type) {
			c.problem(path+".type", fmt.Sprintf("%s, but the property is %s", in.Type, p.Type), "write the type that the property has")
		}
	}
	for i := range r.Actions {
		a, path := &r.Actions[i], fmt.Sprintf("spec.then[%d]", i)
		p, ok := find(path, a.Device, a.Property)
		switch {
		case !ok:
		case !p.Writable:
			c.problem(path+".property", fmt.Sprintf("%q is ReadOnly", a.Property), "set a property that is ReadWrite")
		case a.expr == nil:
			if _, err := p.Coerce(a.value); err != nil {
				c.problem(path+".value", err.Error(), "write a value that the property takes")
			}
		}
	}
	return c.problems, unknown
}
