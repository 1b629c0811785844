package serial

import (
	"time"

	"github.com/twinline/twinline/internal/number"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// visitorConfig is a visitor's configData as written, over the field of the profile that it names.
type visitorConfig struct {
	Request   string            `key:"request"`
	Field     string            `key:"field"`
	When      *whenConfig       `key:"when"`
	Regex     string            `key:"regex"`
	Group     string            `key:"group"`
	Column    *int              `key:"column"`
	Separator string            `key:"separator"`
	Name      string            `key:"name"`
	Pointer   string            `key:"pointer"`
	At        *int              `key:"at"`
	Length    *int              `key:"length"`
	Type      string            `key:"type"`
	Order     string            `key:"order"`
	Bit       *int              `key:"bit"`
	Scale     float64           `key:"scale"`
	Offset    float64           `key:"offset"`
	Enum      map[string]string `key:"enum"`
	Sentinels []twin.Value      `key:"sentinels"`
	Deadband  float64           `key:"deadband"`
	Bad       map[string]string `key:"bad"`
	Write     *writeConfig      `key:"write"`
}

// whenConfig says which frames have the property.
type whenConfig struct {
	Prefix string            `key:"prefix"`
	Match  string            `key:"match"`
	Equals map[string]string `key:"equals"`
}

// writeConfig says how the property is set.
type writeConfig struct {
	Send    string         `key:"send"`
	SendHex string         `key:"sendHex"`
	Raw     bool           `key:"raw"`
	Reply   *replyConfig   `key:"reply"`
	Timeout *time.Duration `key:"timeout"`
	Assume  bool           `key:"assume"`
}

// VisitorTable describes the configData of a serial visitor: it decodes it and documents it.
func VisitorTable() *schema.Table {
	fields := []schema.Field{
		{Key: "request", Kind: schema.String, Min: 1, Max: 64, Doc: "The request whose answer has the value. Without one it is in what the device says by itself."},
		{Key: "field", Kind: schema.String, Min: 1, Max: 128, Example: "RMC.speed", Doc: "A named field of the profile; the page of the profile lists them."},
		{Key: "when", Kind: schema.Nested, Table: whenTable(), Doc: "Which frames have it, where they differ. All that is given must hold."},
		{Key: "regex", Kind: schema.String, Min: 1, Max: maxPattern, Example: `T=([-+0-9.]+)`, Doc: "A regular expression (RE2). The value is its `group`."},
		{Key: "group", Kind: schema.String, Min: 1, Max: 64, Doc: "The number or the name of the regular expression's group; default 1."},
		{Key: "column", Kind: schema.Int, Min: 0, Max: 1023, Doc: "The column of a frame that is parted by `separator`, counted from 0."},
		{Key: "separator", Kind: schema.String, Min: 1, Max: 8, Doc: "What parts columns; default a comma. A space stands for any number of spaces and tabs."},
		{Key: "name", Kind: schema.String, Min: 1, Max: 128, Example: "TEMP", Doc: "The name in a frame of `NAME=VALUE` pairs, parted by spaces, commas or semicolons; `NAME:VALUE` is read too."},
		{Key: "pointer", Kind: schema.String, Max: 256, Example: "/sensors/0/temp", Doc: "Where in a frame that is JSON (RFC 6901)."},
		{Key: "at", Kind: schema.Int, Min: -4096, Max: 4096, Doc: "Where in the frame its bytes begin, counted from 0; negative from the end. `type` says how many there are."},
		{Key: "length", Kind: schema.Int, Min: 1, Max: 4096, Doc: "With `at`: how many bytes, for a `string`, for text in fixed places, and for a `bool` of more than one."},
		{Key: "bit", Kind: schema.Int, Min: 0, Max: 63, Doc: "With `at`: the bit of the number that a `bool` is, 0 the least significant."},
		{
			Key: "bad", Kind: schema.Map, Max: 16, Item: &schema.Field{Kind: schema.String, Min: 1, Max: maxPattern}, Example: "{motion: '^.{3}[^ ]'}",
			Doc: "Frames in which the value is none: the word for the quality (`bad:motion`) and a regular expression on the frame.",
		},
		{Key: "write", Kind: schema.Nested, Table: writeTable(), Doc: "How the property is set. Needed for a ReadWrite property, and for no other."},
	}
	types := append(number.TextTypes(), number.BinaryTypes()...)
	return &schema.Table{
		Title:  "Serial: a property",
		Doc:    "`configData` of the property's visitor, in the device or in the model; the device's keys override the model's. One of `field`, `regex`, `column`, `name`, `pointer` and `at` says where the value is.",
		Fields: append(fields, numberFields(types)...),
	}
}

// numberFields are those of all drivers; a serial device has no order of its own.
func numberFields(types []string) []schema.Field {
	fields := number.Fields(types)
	for i := range fields {
		if fields[i].Key == "order" {
			fields[i].Doc = "With `at`: the bytes of the number as they come, `big` (the most significant first, the default) or `little`; or by letters, A the most significant, such as `CDAB`."
			fields[i].Example = "little"
		}
	}
	return fields
}

func whenTable() *schema.Table {
	return &schema.Table{Title: "When", Fields: []schema.Field{
		{Key: "prefix", Kind: schema.String, Min: 1, Max: 256, Doc: "The frame begins with it."},
		{Key: "match", Kind: schema.String, Min: 1, Max: maxPattern, Doc: "The frame matches this regular expression."},
		{Key: "equals", Kind: schema.Map, Max: 8, Item: &schema.Field{Kind: schema.String, Max: 256}, Example: `{"0": "TH", "/id": "7"}`, Doc: "What a column (by number), a place in JSON (by pointer) or a named field must be."},
	}}
}

func writeTable() *schema.Table {
	return &schema.Table{Title: "Write", Fields: []schema.Field{
		{Key: "send", Kind: schema.String, Min: 1, Max: 4096, Example: `SP ${value:%.1f}`, Doc: "What is sent; `${value}` is the value, as the instrument shows it, before `scale` and `offset`."},
		{Key: "sendHex", Kind: schema.String, Min: 1, Max: 4096, Doc: "The same in hexadecimal digits; `${value}` is then the bytes of `type`."},
		{Key: "raw", Kind: schema.Bool, Default: false, Doc: "Send it as it is, without framing and check."},
		{Key: "reply", Kind: schema.Nested, Table: replyTable(), Doc: "What the answer must be. Default: the next frame, whatever it is."},
		{Key: "timeout", Kind: schema.Duration, Unit: "ms", Min: 10 * time.Millisecond, Max: time.Minute, Doc: "In place of the device's."},
		{Key: "assume", Kind: schema.Bool, Default: false, Doc: "The instrument cannot be asked for it: what it took last is what the property shows. Then no place of the value is needed; after a start of the mapper the property is `bad:unknown` until it is set."},
	}}
}
