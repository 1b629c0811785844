// Package edgecore speaks EdgeCore's language on the node's broker: the topics
// and messages under $hw/events, the values a twin can hold, and the Reporter that
// carries twin state through them at the pace EdgeCore and CloudCore survive. The facts it rests on are
// those of KubeEdge v1.23; its tests check them against KubeEdge's own code.
package edgecore

import (
	"fmt"
	"strings"

	"github.com/twinline/twinline/pkg/twin"
)

const (
	devicePrefix = "$hw/events/device/"
	nodePrefix   = "$hw/events/node/"

	twinUpdate       = "/twin/update"
	twinUpdateResult = "/twin/update/result"
	twinDocument     = "/twin/update/document"
	twinDelta        = "/twin/update/delta"
	twinGet          = "/twin/get"
	twinGetResult    = "/twin/get/result"
	stateUpdate      = "/state/update"
	stateResult      = "/state/update/result"

	membershipUpdated   = "/membership/updated"
	membershipGet       = "/membership/get"
	membershipGetResult = "/membership/get/result"
)

// Filters of what EdgeCore publishes.
const (
	AllTwinResults       = devicePrefix + "+/+" + twinUpdateResult
	AllTwinDocuments     = devicePrefix + "+/+" + twinDocument
	AllStateResults      = devicePrefix + "+/+" + stateResult
	AllMembershipUpdates = nodePrefix + "+" + membershipUpdated

	// NoDeviceResultTopic is where EdgeCore answers a twin/update that it cannot
	// read: with the device left out, and the event id too (devicetwin/dtmanager/twin.go, Updated).
	NoDeviceResultTopic = devicePrefix + twinUpdateResult
)

// TwinUpdateTopic takes reports of a device's twin.
func TwinUpdateTopic(id twin.DeviceID) string { return devicePrefix + id.String() + twinUpdate }

// TwinUpdateResultTopic carries the answers to TwinUpdateTopic.
func TwinUpdateResultTopic(id twin.DeviceID) string {
	return devicePrefix + id.String() + twinUpdateResult
}

// TwinDocumentTopic carries the twin before and after each accepted report.
func TwinDocumentTopic(id twin.DeviceID) string { return devicePrefix + id.String() + twinDocument }

// TwinDeltaTopic carries what is expected and not actual.
func TwinDeltaTopic(id twin.DeviceID) string { return devicePrefix + id.String() + twinDelta }

// TwinGetTopic asks for a twin.
func TwinGetTopic(id twin.DeviceID) string { return devicePrefix + id.String() + twinGet }

// TwinGetResultTopic carries the answers to TwinGetTopic.
func TwinGetResultTopic(id twin.DeviceID) string { return devicePrefix + id.String() + twinGetResult }

// StateUpdateTopic takes reports of a device's state.
func StateUpdateTopic(id twin.DeviceID) string { return devicePrefix + id.String() + stateUpdate }

// StateUpdateResultTopic carries the answers to StateUpdateTopic.
func StateUpdateResultTopic(id twin.DeviceID) string { return devicePrefix + id.String() + stateResult }

// MembershipUpdatedTopic tells of devices given to and taken from a node.
func MembershipUpdatedTopic(node string) string { return nodePrefix + node + membershipUpdated }

// MembershipGetTopic asks for the devices of a node.
func MembershipGetTopic(node string) string { return nodePrefix + node + membershipGet }

// MembershipGetResultTopic carries the answers to MembershipGetTopic.
func MembershipGetResultTopic(node string) string { return nodePrefix + node + membershipGetResult }

// DeviceOfTopic returns the device of a topic under $hw/events/device/.
func DeviceOfTopic(topic string) (twin.DeviceID, bool) {
	rest, ok := strings.CutPrefix(topic, devicePrefix)
	if !ok {
		return twin.DeviceID{}, false
	}
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) != 3 {
		return twin.DeviceID{}, false
	}
	id, err := twin.ParseDeviceID(parts[0] + "/" + parts[1])
	return id, err == nil
}

// CheckDevice reports why EdgeCore can never carry the twin of a device, or nil.
// It looks for the namespace in the topic from the left (devicetwin/process.go,
// classifyMsg), and for "dev" or "events" finds it in "$hw/events/device/".
func CheckDevice(id twin.DeviceID) error {
	if strings.Contains(devicePrefix, id.Namespace) {
		return fmt.Errorf("namespace %q is a part of %q, and EdgeCore loses the messages of such devices", id.Namespace, devicePrefix)
	}
	return nil
}
