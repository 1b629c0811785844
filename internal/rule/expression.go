package rule

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"

	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// Type is what an expression sees of an input.
type Type string

// The types of inputs.
const (
	Double Type = "double"
	Int    Type = "int"
	Bool   Type = "bool"
	Text   Type = "string"
)

func (t Type) cel() *cel.Type {
	return map[Type]*cel.Type{Double: cel.DoubleType, Int: cel.IntType, Bool: cel.BoolType, Text: cel.StringType}[t]
}

// takes reports whether values of a property of type p can be seen as t.
func (t Type) takes(p twin.Type) bool {
	switch p {
	case twin.TypeInt:
		return t == Double || t == Int
	case twin.TypeFloat, twin.TypeDouble:
		return t == Double
	case twin.TypeBoolean:
		return t == Bool
	}
	return t == Text
}

// native gives a value as the expression sees it.
func (t Type) native(v twin.Value) (any, bool) {
	switch t {
	case Double:
		return v.AsFloat()
	case Int:
		if f, ok := v.AsFloat(); ok && v.Kind() == twin.Float && f == float64(int64(f)) && f >= -(1<<53) && f <= 1<<53 {
			return int64(f), true // a whole number that came as a float
		}
		return v.AsInt()
	case Bool:
		return v.AsBool()
	}
	return v.AsString()
}

// validIdent reports whether a variable can have the name: an identifier that is
// no reserved word of CEL (cel-spec, langdef.md) and no type's name.
func validIdent(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i, c := range name {
		letter := (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	words := "true false null in as break const continue else for function if import let loop package namespace return var void while " +
		"bool bytes double dyn int list map math null_type string timestamp duration type uint"
	return !slices.Contains(strings.Fields(words), name)
}

// environment compiles the expressions of one rule.
type environment struct {
	env   *cel.Env
	names []string
	used  map[string]bool
}

func newEnvironment(inputs []Input) (*environment, error) {
	e := &environment{used: map[string]bool{}}
	opts := []cel.EnvOption{
		cel.StdLib(), cel.ClearMacros(), ext.Math(), cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxExpression), cel.ParserRecursionLimit(64), // as deep as anyone writes
	}
	for _, in := range inputs {
		opts = append(opts, cel.Variable(in.Name, in.Type.cel()))
		e.names = append(e.names, in.Name)
	}
	var err error
	if e.env, err = cel.NewCustomEnv(opts...); err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	return e, nil
}

// expression is one compiled expression. It may be used concurrently.
type expression struct{ program cel.Program }

// compile type-checks text; if it is wrong the expression is nil, and what and
// remedy say why. A condition must be a boolean, others a boolean, number or text.
func (e *environment) compile(text string, condition bool) (x *expression, what, remedy string) {
	ast, issues := e.env.Compile(text)
	if errs := issues.Errors(); len(errs) > 0 {
		what, remedy = e.explain(text, errs[0])
		return nil, what, remedy
	}
	out := ast.OutputType()
	scalars := []*cel.Type{cel.BoolType, cel.IntType, cel.UintType, cel.DoubleType, cel.StringType}
	switch {
	case condition && !out.IsExactType(cel.BoolType):
		return nil, fmt.Sprintf("%.80q gives %s, not true or false", text, out), "write a comparison, such as temp > 80.0"
	case !slices.ContainsFunc(scalars, out.IsExactType):
		return nil, fmt.Sprintf("%.80q gives %s, which no property takes", text, out), "write an expression that gives a boolean, a number or a text"
	}
	program, err := e.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, err.Error(), "write it otherwise"
	}
	for _, ident := range celast.MatchDescendants(celast.NavigateAST(ast.NativeRep()), celast.KindMatcher(celast.IdentKind)) {
		e.used[ident.AsIdent()] = true
	}
	return &expression{program}, "", ""
}

// explain turns CEL's first error into a sentence with a remedy.
func (e *environment) explain(text string, err *cel.Error) (what, remedy string) {
	message, _, _ := strings.Cut(err.Message, "\n")
	message = strings.TrimSuffix(message, " (in container '')")
	what = fmt.Sprintf("%.80q, column %d: %s", text, err.Location.Column()+1, message)
	if err.Location.Line() > 1 {
		what = fmt.Sprintf("line %d, column %d: %s", err.Location.Line(), err.Location.Column()+1, message)
	}
	undeclared := regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return what, "declare it under inputs, or: " + schema.Suggest(m[1], e.names)
	}
	if strings.HasPrefix(message, "found no matching overload") {
		return what, "calculate with one type: 2.0 beside an input of the type double, 2 beside an int; and compare like with like"
	}
	return what, "mend it, as in temp > 80.0 && running"
}

// eval evaluates the expression. Its error is for people: a division by zero, too much work.
func (x *expression) eval(inputs map[string]any) (ref.Val, error) {
	out, _, err := x.program.Eval(inputs)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	return out, nil
}

func (x *expression) condition(inputs map[string]any) (bool, error) {
	out, err := x.eval(inputs)
	if err != nil {
		return false, err
	}
	return out == types.True, nil
}

func (x *expression) value(inputs map[string]any) (twin.Value, error) {
	out, err := x.eval(inputs)
	if err != nil {
		return twin.Value{}, err
	}
	var v twin.Value
	switch out := out.(type) {
	case types.Bool:
		v = twin.BoolValue(bool(out))
	case types.Int:
		v = twin.IntValue(int64(out))
	case types.Uint:
		v = twin.UintValue(uint64(out))
	case types.Double:
		v = twin.FloatValue(float64(out))
	case types.String:
		if len(out) <= twin.MaxStringValue {
			v = twin.StringValue(string(out))
		}
	}
	if v.IsZero() {
		return v, fmt.Errorf("it gives %.40v, which is no value", out)
	}
	return v, nil
}
