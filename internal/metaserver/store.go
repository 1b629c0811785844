package metaserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/inventory"
	"github.com/twinline/twinline/pkg/twin"
)

// object is one object of MetaServer.
type object struct {
	id       twin.DeviceID // namespace and name, as they are
	uid      string
	revision uint64 // resourceVersion; 0 if it has none
	raw      []byte
	part     inventory.Part
}

// parse reads an object. kind is put in where it is missing: what KubeEdge's
// dynamic controller has passed on may lack it.
func parse(kind string, raw json.RawMessage) (*object, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Namespace       string `json:"namespace"`
			Name            string `json:"name"`
			UID             string `json:"uid"`
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("an object of MetaServer cannot be read: %w", err)
	}
	if head.Metadata.Name == "" {
		return nil, fmt.Errorf("an object of MetaServer has no name: %.80s", raw)
	}
	if head.APIVersion == "" || head.Kind == "" {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, fmt.Errorf("an object of MetaServer cannot be read: %w", err)
		}
		fields["apiVersion"], fields["kind"] = json.RawMessage(strconv.Quote(declare.APIVersion)), json.RawMessage(strconv.Quote(kind))
		whole, err := json.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("an object of MetaServer cannot be read: %w", err)
		}
		raw = whole
	}
	revision, _ := strconv.ParseUint(head.Metadata.ResourceVersion, 10, 64) // else 0
	return &object{
		id:  twin.DeviceID{Namespace: head.Metadata.Namespace, Name: head.Metadata.Name},
		uid: head.Metadata.UID, revision: revision, raw: raw,
	}, nil
}

// olderThan reports whether o is an earlier form of the same object as p.
func (o *object) olderThan(p *object) bool {
	return o.uid == p.uid && o.revision < p.revision
}

// store holds the objects of one kind, as lists and events tell of them. A list
// takes seconds and shows an unknown moment of them, so what events say during a list goes
// before it. Its owner is one goroutine.
type store struct {
	kind    string
	objects map[twin.DeviceID]*object
	odd     map[string]twin.Problem // what could not be read
	known   bool                    // listed at least once

	listing bool
	touched map[twin.DeviceID]*object // by events during the list; the last of each
	gone    map[twin.DeviceID]*object // deleted during the list
	empty   bool                      // the last list was empty though there were objects
}

func newStore(kind string) *store {
	return &store{kind: kind, objects: map[twin.DeviceID]*object{}, odd: map[string]twin.Problem{}}
}

// begin notes that a list has been asked for.
func (s *store) begin() {
	s.listing = true
	s.touched, s.gone = map[twin.DeviceID]*object{}, map[twin.DeviceID]*object{}
}

// abandon notes that the list has failed.
func (s *store) abandon() { s.listing, s.touched, s.gone = false, nil, nil }

// listed takes the answer. It returns whether anything has changed, and whether the
// answer is in doubt: when all objects are gone at once a second list has to confirm it.
func (s *store) listed(items []json.RawMessage) (changed, doubt bool) {
	if !s.listing {
		return false, false
	}
	if len(items) == 0 && len(s.objects) > 0 && !s.empty {
		s.empty = true
		s.abandon()
		return false, true
	}
	s.empty = false
	next, odd := map[twin.DeviceID]*object{}, map[string]twin.Problem{}
	for _, raw := range items {
		o, err := parse(s.kind, raw)
		if err != nil {
			odd[err.Error()] = twin.Problem{Object: s.kind, What: err.Error(), Remedy: "delete and recreate it in the cloud"}
			continue
		}
		if t := s.gone[o.id]; t != nil && !t.olderThan(o) && t.uid == o.uid {
			continue
		}
		if t := s.touched[o.id]; t != nil && o.olderThan(t) {
			continue
		}
		next[o.id] = o
	}
	for id, t := range s.touched {
		if _, ok := next[id]; !ok && s.objects[id] == t {
			next[id] = t
		}
	}
	changed = !s.known || s.differs(next) || !maps.Equal(s.odd, odd)
	for id, o := range next {
		if old, ok := s.objects[id]; ok && bytes.Equal(old.raw, o.raw) {
			next[id] = old
		} else {
			s.decode(o)
		}
	}
	s.objects, s.odd, s.known = next, odd, true
	s.abandon()
	return changed, false
}

func (s *store) differs(next map[twin.DeviceID]*object) bool {
	return !maps.EqualFunc(s.objects, next, func(a, b *object) bool { return bytes.Equal(a.raw, b.raw) })
}

// event takes an event of a watch and returns whether it has changed anything.
func (s *store) event(e event) bool {
	o, err := parse(s.kind, e.Object)
	if err != nil {
		if _, said := s.odd[err.Error()]; said || len(s.odd) >= maxOdd {
			return false
		}
		s.odd[err.Error()] = twin.Problem{Object: s.kind, What: err.Error(), Remedy: "delete and recreate it in the cloud"}
		return true
	}
	old, ok := s.objects[o.id]
	if ok && o.olderThan(old) {
		return false // watches begin with what there was
	}
	if e.Type == deleted {
		if ok && old.uid != o.uid && old.revision > o.revision {
			return false // its successor is there already
		}
		delete(s.objects, o.id)
		if s.listing {
			delete(s.touched, o.id)
			s.gone[o.id] = o
		}
		return ok
	}
	same := ok && bytes.Equal(old.raw, o.raw)
	if same {
		o = old
	} else {
		s.decode(o)
		s.objects[o.id] = o
	}
	if s.listing {
		delete(s.gone, o.id)
		s.touched[o.id] = o
	}
	return !same
}

// maxOdd bounds the problems kept of objects without a name.
const maxOdd = 50

func (s *store) decode(o *object) {
	objects, problems := declare.Decode("MetaServer", o.raw)
	o.part = inventory.Part{Objects: objects, Problems: problems}
}

// parts returns what the store holds, in order of names.
func (s *store) parts() []inventory.Part {
	ids := slices.SortedFunc(maps.Keys(s.objects), func(a, b twin.DeviceID) int { return strings.Compare(a.String(), b.String()) })
	parts := make([]inventory.Part, 0, len(ids)+1)
	for _, id := range ids {
		parts = append(parts, s.objects[id].part)
	}
	var odd inventory.Part
	for _, key := range slices.Sorted(maps.Keys(s.odd)) {
		odd.Problems = append(odd.Problems, s.odd[key])
	}
	return append(parts, odd)
}
