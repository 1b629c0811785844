package twin

import "strings"

// Problem is one mistake in a declaration, said so that its author can mend it.
type Problem struct {
	Object string `json:"object"`           // kind and name: "Device default/boiler"
	Field  string `json:"field,omitempty"`  // path in the object: "spec.properties[2].visitors.configData.address"
	What   string `json:"what"`             // what is wrong: "address 70000 is beyond 65535"
	Remedy string `json:"remedy,omitempty"` // what to write instead: "use an address from 0 to 65535"
}

// Error returns "<object>: <field>: <what>; <remedy>".
func (p Problem) Error() string {
	var b strings.Builder
	for _, s := range []string{p.Object, p.Field} {
		if s != "" {
			b.WriteString(s)
			b.WriteString(": ")
		}
	}
	b.WriteString(p.What)
	if p.Remedy != "" {
		b.WriteString("; ")
		b.WriteString(p.Remedy)
	}
	return b.String()
}
