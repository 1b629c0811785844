package bus

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopicLength bounds topics and filters, in bytes: MQTT 3.1.1 gives them a
// length of 16 bits.
const MaxTopicLength = 65535

// CheckTopic reports why a message cannot be published to topic, or nil.
func CheckTopic(topic string) error {
	if err := checkText(topic); err != nil {
		return fmt.Errorf("topic %.80q: %w", topic, err)
	}
	if strings.ContainsAny(topic, "+#") {
		return fmt.Errorf("topic %.80q: the wildcards + and # are for filters", topic)
	}
	return nil
}

// CheckFilter reports why filter cannot be subscribed to, or nil. Shared
// subscriptions ($share/…) are refused: MQTT 3.1.1 has none.
func CheckFilter(filter string) error {
	if err := checkText(filter); err != nil {
		return fmt.Errorf("filter %.80q: %w", filter, err)
	}
	if strings.HasPrefix(filter, "$share/") {
		return fmt.Errorf("filter %.80q: MQTT 3.1.1 has no shared subscriptions", filter)
	}
	rest, more := filter, true
	for more {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && more:
			return fmt.Errorf("filter %.80q: # is allowed as the last level only", filter)
		case level != "#" && level != "+" && strings.ContainsAny(level, "+#"):
			return fmt.Errorf("filter %.80q: + and # stand for whole levels", filter)
		}
	}
	return nil
}

func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > MaxTopicLength:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), MaxTopicLength)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.ContainsRune(s, 0):
		return errors.New("holds a NUL character")
	}
	return nil
}

// Match reports whether a message on topic goes to a subscriber of filter, by
// the rules of MQTT 3.1.1 section 4.7: a wildcard in the first level does not match
// topics that begin with '$', and "a/#" matches "a".
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		if filter == "#" {
			return true
		}
		f, fRest, fMore := strings.Cut(filter, "/")
		t, tRest, tMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !fMore || !tMore {
			return fMore == tMore || (fMore && fRest == "#")
		}
		filter, topic = fRest, tRest
	}
}
