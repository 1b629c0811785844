package serial

import (
	"fmt"
	"strings"

	"github.com/twinline/twinline/internal/checksum"
	"github.com/twinline/twinline/internal/framing"
)

// framing makes the Config's framing of what is declared.
func (p *parser) framing(c *Config, raw *framingConfig, check *checkConfig) {
	path := configPath + ".framing"
	if raw == nil {
		raw = &framingConfig{Kind: "delimiter", Max: framing.DefaultMax}
	}
	before := len(p.problems)
	f := framing.Config{
		Kind:      framing.Kind(raw.Kind),
		Delimiter: p.literal(path+".delimiter", raw.Delimiter), Start: p.literal(path+".start", raw.Start), End: p.literal(path+".end", raw.End),
		Restart: raw.Restart, After: raw.After, AfterDelimiter: p.literal(path+".until", raw.Until),
		Size: raw.Size, Offset: raw.Offset, Width: raw.Width, Little: raw.Order == "little", Adjust: raw.Adjust,
		Gap: raw.Gap, Max: raw.Max,
	}
	if raw.Escape != "none" {
		f.Escape = framing.Escape{Mode: framing.Mode(raw.Escape), With: p.literal(path+".escapeBy", raw.EscapeBy)}
	}
	if f.Kind == framing.Delimiter && len(f.Delimiter) == 0 {
		f.Delimiter = []byte{'\n'}
	}
	c.trim = f.Kind == framing.Delimiter && string(f.Delimiter) == "\n"
	if f.Kind == framing.Length && f.Width == 0 {
		f.Width = 1
	}
	if check != nil {
		f.Check = p.check(&f, check)
	}
	if len(p.problems) == before {
		for _, wrong := range f.Problems() {
			p.problem(declaredKey(wrong.Key), wrong.What, wrong.Remedy)
		}
	}
	c.Framing = f
}

// check makes the check of frames like f.
func (p *parser) check(f *framing.Config, raw *checkConfig) *framing.Check {
	algorithm, _ := checksum.Find(raw.Kind) // the schema knows the names
	c := &framing.Check{
		Algorithm: algorithm, From: raw.From, To: raw.To, Mark: p.literal(configPath+".check.mark", raw.Mark),
		Digits: raw.Digits, Little: raw.Order == "little", SevenBit: raw.SevenBit,
	}
	if raw.Encoding != "binary" {
		c.Encoding = framing.Encoding(raw.Encoding)
	}
	if raw.At != nil {
		c.At = *raw.At
		return c
	}
	width := (algorithm.Bits() + 7) / 8
	switch {
	case raw.Digits > 0:
		width = raw.Digits
	case c.Encoding == framing.Hex:
		width *= 2
	case c.Encoding == framing.Decimal:
		width = len(fmt.Sprint(uint64(1)<<algorithm.Bits() - 1))
	}
	switch f.Kind {
	case framing.Delimiter:
		width += len(f.Delimiter)
	case framing.Between:
		if f.After > 0 {
			width = f.After // it stands right behind the end
		} else {
			width += len(f.End)
		}
	default:
		width += len(f.End)
	}
	c.At = -width
	return c
}

// declaredKey is where in configData a setting of framing.Config is declared.
func declaredKey(key string) string {
	if rest, ok := strings.CutPrefix(key, "check."); ok {
		if rest == "algorithm" {
			rest = "kind"
		}
		if rest == "little" {
			rest = "order"
		}
		return configPath + ".check." + rest
	}
	switch key {
	case "afterDelimiter":
		key = "until"
	case "escape.mode", "escape":
		key = "escape"
	case "escape.with":
		key = "escapeBy"
	case "little":
		key = "order"
	}
	return configPath + ".framing." + key
}

// literal reads bytes with escapes and no places.
func (p *parser) literal(path, text string) []byte {
	if text == "" {
		return nil
	}
	b, err := unescapeAll(text)
	if err != nil {
		p.problem(path, err.Error(), `write bytes, with the escapes \r \n \t \0 \xHH \\ \$`)
	}
	return b
}
