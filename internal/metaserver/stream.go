package metaserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Bounds of what is read from MetaServer.
const (
	maxEvent = 2 << 20  // one object with its event; Kubernetes stores at most 1.5 MiB
	maxList  = 64 << 20 // one list; declare refuses objects beyond its own bounds
)

// Types of watch events that matter (k8s.io/apimachinery/pkg/watch).
const (
	added    = "ADDED"
	modified = "MODIFIED"
	deleted  = "DELETED"
	failed   = "ERROR"
)

// errTooLarge is returned for an event or a list beyond its bound.
var errTooLarge = errors.New("more than the bound")

// event is one line of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// readEvents calls f for each event of a watch, until the stream ends, breaks or
// f fails. The error says why; io.EOF is a clean end. Events of types unknown to us,
// such as BOOKMARK, are left out; ERROR ends the watch.
func readEvents(r io.Reader, f func(event) error) error {
	limited := &io.LimitedReader{R: r}
	decoder := json.NewDecoder(limited)
	for {
		limited.N = maxEvent
		var e event
		if err := decoder.Decode(&e); err != nil {
			if limited.N <= 0 {
				return fmt.Errorf("event of %w: %d bytes", errTooLarge, maxEvent)
			}
			return err
		}
		switch e.Type {
		case added, modified, deleted:
			if err := f(e); err != nil {
				return err
			}
		case failed:
			var status struct {
				Message string `json:"message"`
				Reason  string `json:"reason"`
			}
			_ = json.Unmarshal(e.Object, &status) // what it says is for people
			return fmt.Errorf("MetaServer ended the watch: %.200s", status.Message+" "+status.Reason)
		}
	}
}

// readList reads a List and returns its items.
func readList(r io.Reader) ([]json.RawMessage, error) {
	limited := &io.LimitedReader{R: r, N: maxList}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.NewDecoder(limited).Decode(&list); err != nil {
		if limited.N <= 0 {
			return nil, fmt.Errorf("list of %w: %d bytes", errTooLarge, maxList)
		}
		return nil, fmt.Errorf("list: %w", err)
	}
	return list.Items, nil
}
