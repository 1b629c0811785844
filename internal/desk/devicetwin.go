package desk

import (
	"crypto/rand"
	"encoding/json"
	"time"
)

// deviceTwin is EdgeCore's memory of one device and the rules by which it
// changes (dtmanager/twin.go). It is not safe for concurrent use.
type deviceTwin struct {
	name       string
	state      string
	lastOnline string
	twins      map[string]*msgTwin // never changed in place
	jammed     bool
}

// outcome is what a twin/update brings about.
type outcome struct {
	code     int // of an error; zero: accepted
	err      error
	result   map[string]*msgTwin
	document map[string]*twinDoc
}

// update applies a whole message or nothing of it.
func (d *deviceTwin) update(twins map[string]*msgTwin, now time.Time) outcome {
	next := make(map[string]*msgTwin, len(d.twins)+len(twins))
	for name, t := range d.twins {
		next[name] = t
	}
	o := outcome{result: map[string]*msgTwin{}, document: map[string]*twinDoc{}}
	for name, change := range twins {
		old := next[name]
		merged, err := merge(old, change, now)
		if err != nil {
			return outcome{code: codeBadRequest, err: err}
		}
		if change == nil && merged == old {
			continue // a twin that is not optional cannot be deleted
		}
		if merged == nil {
			delete(next, name)
		} else {
			next[name] = merged
		}
		o.result[name] = answerOf(merged, change)
		o.document[name] = &twinDoc{Last: old, Current: merged}
	}
	d.twins = next
	return o
}

// merge returns the twin after the change; nil: deleted.
func merge(old, change *msgTwin, now time.Time) (*msgTwin, error) {
	if change == nil {
		if old == nil {
			return nil, errBody
		}
		if *old.Optional {
			return nil, nil
		}
		return old, nil
	}
	merged := old.clone()
	kind := typeString
	if change.Metadata != nil {
		kind = change.Metadata.Type
	}
	if merged == nil {
		optional := change.Optional == nil || *change.Optional
		merged = &msgTwin{Optional: &optional, Metadata: &typeMetadata{Type: kind}}
	} else {
		kind = old.Metadata.Type // fixed by the first report
		if change.Optional != nil && *merged.Optional {
			merged.Optional = change.Optional
		}
	}
	for _, side := range []struct{ to, from **twinValue }{{&merged.Expected, &change.Expected}, {&merged.Actual, &change.Actual}} {
		v := *side.from
		if v == nil {
			continue
		}
		if v.Value == nil {
			return nil, errJam
		}
		if err := checkType(kind, *v.Value); err != nil {
			return nil, err
		}
		// EdgeCore puts its own clock's time in place of the sender's.
		*side.to = &twinValue{Value: v.Value, Metadata: &valueMetadata{Timestamp: now.UnixMilli()}}
	}
	return merged, nil
}

// answerOf is the part of a twin that a result shows: what the change touched.
func answerOf(merged, change *msgTwin) *msgTwin {
	if merged == nil {
		return nil
	}
	r := &msgTwin{Optional: merged.Optional, Metadata: merged.Metadata}
	if change.Expected != nil {
		r.Expected = merged.Expected
	}
	if change.Actual != nil {
		r.Actual = merged.Actual
	}
	return r
}

// delta returns the properties with a non-empty expected, and of those the ones
// whose actual differs; ok is false if there are none of the first.
func (d *deviceTwin) delta() (twins map[string]*msgTwin, delta map[string]string, ok bool) {
	twins, delta = map[string]*msgTwin{}, map[string]string{}
	for name, t := range d.twins {
		if t.Expected == nil || t.Expected.Value == nil || *t.Expected.Value == "" {
			continue
		}
		twins[name] = t
		if t.Actual == nil || t.Actual.Value == nil || *t.Actual.Value != *t.Expected.Value {
			delta[name] = *t.Expected.Value
		}
	}
	return twins, delta, len(delta) > 0
}

func newEventID() string { return rand.Text() }

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types above always marshal
	}
	return data
}
