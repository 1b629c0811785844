package number

import (
	"slices"

	"github.com/twinline/twinline/internal/schema"
)

// Bounds of what a visitor declares.
const (
	maxName      = 512 // bytes of a name: the longest value that EdgeCore takes
	maxSentinels = 16  // each is compared with every reading
)

// Fields returns the keys of a visitor that a Decl is made of: type (one of
// types), order, scale, offset, enum, sentinels and deadband. A driver adds its own, and may say more of
// type and offset.
func Fields(types []string) []schema.Field {
	seen := make([]string, 0, len(types))
	for _, t := range types {
		if !slices.Contains(seen, t) { // bool and string are of bytes and of text
			seen = append(seen, t)
		}
	}
	return []schema.Field{
		{
			Key: "type", Kind: schema.Enum, Enum: seen, Example: "float32",
			Doc: "How to take what the device sends.",
		},
		{
			Key: "order", Kind: schema.String, Min: 2, Max: 8, Example: "CDAB",
			Doc: "The bytes of the number as they come, A the most significant: `big` (the most significant first) or `little`; `AB` or `BA` for 16 bits and for strings of registers; `ABCD`, `BADC`, `CDAB` or `DCBA` from 32 bits on; the letters of the bytes in any order for 24, 48 and 64 bits. Without it the device's `order` holds.",
		},
		{Key: "scale", Kind: schema.Float, Default: 1.0, Doc: "The value is what the device sends times `scale` plus `offset`."},
		{Key: "offset", Kind: schema.Float, Default: 0.0, Doc: "See `scale`."},
		{
			Key: "enum", Kind: schema.Map, Item: &schema.Field{Kind: schema.String, Min: 1, Max: maxName}, Example: `{"0": "off", "1": "on"}`,
			Doc: "Names for the integers, or the texts, that the device may send, for a property of type STRING; of texts also for BOOLEAN, with the names \"true\" and \"false\". What has no name is `bad:enum`.",
		},
		{
			Key: "sentinels", Kind: schema.List, Max: maxSentinels, Item: &schema.Field{Kind: schema.Scalar}, Example: "[0x8000]",
			Doc: "What the device sends when there is no value, before scaling. The property is then `bad:sentinel`. NaN is always bad.",
		},
		Deadband(),
	}
}

// Deadband returns the key deadband, which internal/declare reads too.
func Deadband() schema.Field {
	return schema.Field{
		Key: "deadband", Kind: schema.Float, Default: 0.0, Min: 0.0, Example: "0.5",
		Doc: "The twin of a number is reported again when the value differs by more than this from the one reported last; until its regular repetition it is right up to the deadband. Telemetry has every reading all the same. A desired value is reported as soon as the device shows it, and so is the first value after a bad one.",
	}
}
