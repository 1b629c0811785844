package devicemgmt

import (
	"time"

	"github.com/twinline/twinline/pkg/twin"
)

// View is one device as the API, the events and the topic of twins show it:
// Device, DeviceModel and DeviceStatus joined. Nothing in it depends on when it
// is looked at but State, Stale and the sync states; those are renewed as time passes.
type View struct {
	ID        twin.DeviceID `json:"id"`
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Node      string        `json:"node"`
	Protocol  string        `json:"protocol"`
	Model     string        `json:"model"`

	// State is online, offline, unhealthy, stale (was said to be online, but
	// nothing was heard of it lately: KubeEdge sets no device offline by itself) or
	// unknown (nothing was ever said).
	State         State      `json:"state"`
	ReportedState string     `json:"reportedState,omitempty"` // as the mapper said it
	LastSeen      *time.Time `json:"lastSeen,omitempty"`      // the latest sign of life
	LastOnline    *time.Time `json:"lastOnlineTime,omitempty"`

	Properties []PropertyView `json:"properties"`
	Problems   []ProblemView  `json:"problems,omitempty"`
}

// PropertyView is one property of a View.
type PropertyView struct {
	Name     string     `json:"name"`
	Type     twin.Type  `json:"type"`
	Unit     string     `json:"unit,omitempty"`
	Writable bool       `json:"writable"`
	Minimum  twin.Value `json:"minimum,omitzero"`
	Maximum  twin.Value `json:"maximum,omitzero"`

	Reported *ReportedView `json:"reported,omitempty"` // nil: never reported
	Desired  *DesiredView  `json:"desired,omitempty"`  // nil: none
	Sync     SyncView      `json:"sync"`
}

// ReportedView is what the device last said of a property.
type ReportedView struct {
	Value   twin.Value   `json:"value"` // null if the quality is bad
	Quality twin.Quality `json:"quality"`
	Time    time.Time    `json:"time"`  // by EdgeCore's clock, when the report reached it
	Stale   bool         `json:"stale"` // it should have been reported again since
}

// DesiredView is what someone in the cloud wants.
type DesiredView struct {
	Value twin.Value `json:"value"` // null if Text is not a value of the type
	Text  string     `json:"text"`  // as in the Device object
	Since *time.Time `json:"since,omitempty"`
}

// State is a word for a whole device.
type State string

// The states of a View.
const (
	Online    State = "online"
	Offline   State = "offline"
	Unhealthy State = "unhealthy"
	Stale     State = "stale"
	Unknown   State = "unknown"
)

// SyncState says whether a property is as it is desired.
type SyncState string

// The sync states. A mapper's refusal of a write does not reach the cloud
// through KubeEdge, so it shows as Pending, and then as Overdue.
const (
	NoDesired SyncState = "none"    // nothing is desired
	InSync    SyncState = "synced"  // reported and desired are equal
	Pending   SyncState = "pending" // not yet seen on the device
	Overdue   SyncState = "overdue" // pending for longer than a write takes
	Invalid   SyncState = "invalid" // the desired text cannot be written
)

// SyncView says whether a property is as it is desired, and why not.
type SyncView struct {
	State  SyncState  `json:"state"`
	Since  *time.Time `json:"since,omitempty"`  // of Pending and Overdue
	Reason string     `json:"reason,omitempty"` // for people
}

// ProblemView is a twin.Problem in JSON.
type ProblemView struct {
	Object string `json:"object,omitempty"`
	Field  string `json:"field,omitempty"`
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

func problemViews(problems []twin.Problem) []ProblemView {
	if len(problems) == 0 {
		return nil
	}
	views := make([]ProblemView, len(problems))
	for i, p := range problems {
		views[i] = ProblemView(p)
	}
	return views
}

// Property returns the property of that name.
func (v *View) Property(name string) (*PropertyView, bool) {
	for i := range v.Properties {
		if v.Properties[i].Name == name {
			return &v.Properties[i], true
		}
	}
	return nil, false
}
