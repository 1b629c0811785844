package twin

import "strings"

// Quality says how far a value may be trusted: "good", "uncertain:<why>" or
// "bad:<why>". The zero Quality is good. <why> is one lower-case word or a few
// joined by hyphens, for people and for alert rules: "timeout", "crc",
// "exception-2", "range", "stale".
type Quality string

// Good is the quality of a value that was read, checked and decoded without a doubt.
const Good Quality = "good"

// Uncertain returns the quality of a value that is usable with care: "uncertain:<why>".
func Uncertain(why string) Quality { return Quality("uncertain:" + why) }

// Bad returns the quality of a property that has no usable value: "bad:<why>".
func Bad(why string) Quality { return Quality("bad:" + why) }

// IsGood reports whether q is good.
func (q Quality) IsGood() bool { return q == "" || q == Good }

// IsBad reports whether q is bad, that is, whether there is no value.
func (q Quality) IsBad() bool { return strings.HasPrefix(string(q), "bad:") }

// Why returns what follows the colon, or "".
func (q Quality) Why() string {
	_, why, _ := strings.Cut(string(q), ":")
	return why
}

// maxQualityLength bounds a quality on the wire.
const maxQualityLength = 64

// Valid reports whether q has one of the three forms, is at most 64 characters
// long, and its <why> is of lower-case letters, digits, '-' and '_'.
func (q Quality) Valid() bool {
	if q.IsGood() {
		return true
	}
	kind, why, ok := strings.Cut(string(q), ":")
	if !ok || (kind != "bad" && kind != "uncertain") || why == "" || len(q) > maxQualityLength {
		return false
	}
	for _, c := range why {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
