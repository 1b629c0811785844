package desk

import (
	"encoding/json"
	"regexp"
	"strconv"
)

// The messages of EdgeCore's DeviceTwin (edge/pkg/devicetwin/dttype/types.go). A
// test holds them and the rules below against KubeEdge's own code.

type twinValue struct {
	Value    *string        `json:"value,omitempty"`
	Metadata *valueMetadata `json:"metadata,omitempty"`
}

type valueMetadata struct {
	Timestamp int64 `json:"timestamp,omitempty"` // ms since 1970
}

type typeMetadata struct {
	Type string `json:"type,omitempty"`
}

type msgTwin struct {
	Expected *twinValue    `json:"expected,omitempty"`
	Actual   *twinValue    `json:"actual,omitempty"`
	Optional *bool         `json:"optional,omitempty"`
	Metadata *typeMetadata `json:"metadata,omitempty"`
}

// clone returns a copy that shares only what is never changed in place.
func (t *msgTwin) clone() *msgTwin {
	if t == nil {
		return nil
	}
	c := *t
	return &c
}

type twinUpdate struct {
	EventID   string              `json:"event_id"`
	Timestamp int64               `json:"timestamp"`
	Twin      map[string]*msgTwin `json:"twin"`
}

type twinDoc struct {
	Last    *msgTwin `json:"last"`
	Current *msgTwin `json:"current"`
}

type twinDocument struct {
	EventID   string              `json:"event_id"`
	Timestamp int64               `json:"timestamp"`
	Twin      map[string]*twinDoc `json:"twin"`
}

type twinDelta struct {
	EventID   string              `json:"event_id"`
	Timestamp int64               `json:"timestamp"`
	Twin      map[string]*msgTwin `json:"twin"`
	Delta     map[string]string   `json:"delta"`
}

type errorResult struct {
	EventID   string `json:"event_id"`
	Timestamp int64  `json:"timestamp"`
	Code      int    `json:"code,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

type stateUpdate struct {
	EventID   string `json:"event_id"`
	Timestamp int64  `json:"timestamp"`
	State     string `json:"state,omitempty"`
}

type stateResult struct {
	EventID   string      `json:"event_id"`
	Timestamp int64       `json:"timestamp"`
	Device    stateDevice `json:"device"`
}

type stateDevice struct {
	Name       string `json:"name,omitempty"`
	State      string `json:"state,omitempty"`
	LastOnline string `json:"lastOnlineTime,omitempty"`
}

type membership struct {
	EventID   string         `json:"event_id"`
	Timestamp int64          `json:"timestamp"`
	Devices   []memberDevice `json:"devices"`
}

type memberDevice struct {
	ID         string `json:"id"`
	Name       string `json:"name,omitempty"`
	State      string `json:"state,omitempty"`
	LastOnline string `json:"last_online,omitempty"`
}

// EdgeCore's codes and sentences (dtcommon/common.go, dttype/types.go, dtmanager/twin.go).
const (
	codeBadRequest = 400
	codeNotFound   = 404
	typeDeleted    = "deleted"
	typeString     = "string"
)

// refusal is an error in EdgeCore's own words.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

const (
	errUnmarshal refusal = "Unmarshal update request body failed, please check the request"
	errNoTwin    refusal = "Update twin error, key:twin does not exist"
	errKey       refusal = "The key of twin must only include upper or lowercase letters, number, english, and special letter - _ . , : / @ # and the length of key should be less than 128 bytes"
	errValue     refusal = "The value of twin must only include upper or lowercase letters, number, english, and special letter - _ . , : / @ # and the length of value should be less than 512 bytes"
	errBody      refusal = "the request body is wrong"
	errNoDevice  refusal = "update rejected due to the device is not existed"
	errInt       refusal = "the value is not int or integer"
	errFloat     refusal = "the value is not float"
	errBoolean   refusal = "the bool value must be true or false"
	errType      refusal = "the value type is not allowed"

	// errJam stands for what EdgeCore does not answer at all: it dereferences nil
	// and keeps the device locked.
	errJam refusal = "an expected or actual without a value"
)

// checker holds EdgeCore's patterns (dtcommon/util.go).
type checker struct{ key, value *regexp.Regexp }

func newChecker() checker {
	return checker{regexp.MustCompile(`^[a-zA-Z0-9-_.,:/@#]{1,128}$`), regexp.MustCompile(`^[a-zA-Z0-9-_.,:/@#]{1,512}$`)}
}

// parse reads a twin/update as EdgeCore does; its errors are answered without
// the device and the event.
func (c checker) parse(payload []byte) (*twinUpdate, error) {
	var u twinUpdate
	if err := json.Unmarshal(payload, &u); err != nil {
		return nil, errUnmarshal
	}
	if u.Twin == nil {
		return nil, errNoTwin
	}
	for key, t := range u.Twin {
		if !c.key.MatchString(key) {
			return nil, errKey
		}
		if t == nil {
			continue
		}
		for _, v := range []*twinValue{t.Expected, t.Actual} {
			if v != nil && v.Value != nil && *v.Value != "" && !c.value.MatchString(*v.Value) {
				return nil, errValue
			}
		}
	}
	return &u, nil
}

// checkType is dtcommon.ValidateValue.
func checkType(kind, value string) error {
	switch kind {
	case "", typeString, typeDeleted:
		return nil
	case "int", "integer":
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return errInt
		}
		return nil
	case "float":
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return errFloat
		}
		return nil
	case "boolean":
		if value != "true" && value != "false" {
			return errBoolean
		}
		return nil
	}
	return errType
}
