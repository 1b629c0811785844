package rule

import (
	"time"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a Reaction.
const (
	MaxName       = 63 // what a Kubernetes label can hold; it is part of each command's source
	MaxInputs     = 32
	MaxActions    = 32
	MaxExpression = 2048 // bytes
	// MaxCost bounds one evaluation in CEL's own units: some thousand operations.
	MaxCost = 10_000

	MinTTL = 5 * time.Second // a claim is renewed at half of it, over a bus that may be slow
	MaxTTL = 24 * time.Hour

	// DefaultTTL is how long a claim outlives a reactor that is gone.
	DefaultTTL = time.Minute
	// DefaultMaxAge suits properties that are read every second to every 20 s.
	DefaultMaxAge = time.Minute
)

// spec is Reaction.spec.
type spec struct {
	Inputs    map[string]inputSpec `key:"inputs"`
	MaxAge    time.Duration        `key:"maxAge"`
	When      string               `key:"when"`
	Until     string               `key:"until"`
	For       time.Duration        `key:"for"`
	Undecided string               `key:"undecided"`
	Then      []thenSpec           `key:"then"`
}

type inputSpec struct {
	Device   string         `key:"device"`
	Property string         `key:"property"`
	Type     Type           `key:"type"`
	MaxAge   *time.Duration `key:"maxAge"`
}

type thenSpec struct {
	Device    string        `key:"device"`
	Property  string        `key:"property"`
	Value     twin.Value    `key:"value"`
	ValueExpr string        `key:"valueExpr"`
	Priority  int           `key:"priority"`
	TTL       time.Duration `key:"ttl"`
}

// Table documents and decodes Reaction.spec.
func Table() *schema.Table {
	const device = "Namespace and name of a Device; the namespace may be left out if it is the Reaction's own."
	input := &schema.Table{Title: "Input", Fields: []schema.Field{
		{Key: "device", Required: true, Min: 1, Max: twin.MaxNamespaceLength + 1 + twin.MaxNameLength, Doc: device, Example: "default/boiler"},
		{Key: "property", Required: true, Min: 1, Max: twin.MaxPropertyLength, Doc: "A property of it."},
		{Key: "type", Kind: schema.Enum, Enum: []string{"double", "int", "bool", "string"}, Default: "double", Doc: "What the expression sees. `double` suits INT, FLOAT and DOUBLE; `int` keeps 64-bit integers exact."},
		{Key: "maxAge", Kind: schema.Duration, Min: 100 * time.Millisecond, Max: 24 * time.Hour, Doc: "In place of `spec.maxAge`."},
	}}
	then := &schema.Table{Title: "Action", Fields: []schema.Field{
		{Key: "device", Required: true, Min: 1, Max: twin.MaxNamespaceLength + 1 + twin.MaxNameLength, Doc: device},
		{Key: "property", Required: true, Min: 1, Max: twin.MaxPropertyLength, Doc: "A ReadWrite property of it."},
		{Key: "value", Kind: schema.Scalar, Doc: "What it is set to. Give this or `valueExpr`.", Example: "true"},
		{Key: "valueExpr", Min: 1, Max: MaxExpression, Doc: "An expression that gives the value; when its result changes, the property is set anew.", Example: "math.least(100.0, (temp - 80.0) * 5.0)"},
		{Key: "priority", Kind: schema.Int, Default: twin.DefaultPriority, Min: 1, Max: twin.LowestPriority, Doc: "Of several claims on a property the lowest number holds. The cloud's desired value holds when there is none."},
		{Key: "ttl", Kind: schema.Duration, Default: DefaultTTL, Min: MinTTL, Max: MaxTTL, Doc: "How long the claim outlives a reactor that is gone. It is renewed at half of it."},
	}}
	return &schema.Table{Title: "Reaction", Doc: "`twinline.io/v1alpha1`. Expressions are [CEL](https://cel.dev), the language of Kubernetes' own validations, without macros, with the functions of `math`.", Fields: []schema.Field{
		{
			Key: "inputs", Kind: schema.Map, Required: true, Min: 1, Max: MaxInputs, Item: &schema.Field{Kind: schema.Nested, Table: input},
			Doc: "The properties that the expressions read, by the names they have there. While one has no good reading the rule is undecided, which is neither true nor false.", Example: "temp: {device: default/boiler, property: temperature}",
		},
		{Key: "maxAge", Kind: schema.Duration, Default: DefaultMaxAge, Min: 100 * time.Millisecond, Max: 24 * time.Hour, Doc: "A reading that is older counts as none."},
		{Key: "when", Required: true, Min: 1, Max: MaxExpression, Doc: "The condition: the rule begins to hold when it is true.", Example: "temp > 80.0"},
		{Key: "for", Kind: schema.Duration, Default: time.Duration(0), Min: time.Duration(0), Max: 24 * time.Hour, Doc: "How long `when` must be true without a break before the rule holds."},
		{Key: "until", Min: 1, Max: MaxExpression, Doc: "The rule holds until this is true and `when` is not. Left out: until `when` is false.", Example: "temp < 70.0"},
		{Key: "undecided", Kind: schema.Enum, Enum: []string{"hold", "release"}, Default: "hold", Doc: "What a rule that holds does while it cannot be decided."},
		{Key: "then", Kind: schema.List, Required: true, Min: 1, Max: MaxActions, Item: &schema.Field{Kind: schema.Nested, Table: then}, Doc: "What is set while the rule holds, and released when it does not."},
	}}
}
