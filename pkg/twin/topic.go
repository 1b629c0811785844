package twin

import "strings"

// Topics of the local bus. None lies under $hw/ or <x>/user/, which EdgeCore
// forwards to the cloud (edge/pkg/eventbus/mqtt/client.go).
const (
	telemetryPrefix = "twinline/telemetry/"
	commandPrefix   = "twinline/command/"
	resultSuffix    = "/result"
	ackPrefix       = "twinline/ack/"
	linkPrefix      = "twinline/link/"
	alertPrefix     = "twinline/alert/"

	// AllTelemetry matches every TelemetryTopic.
	AllTelemetry = telemetryPrefix + "+/+"
	// AllCommands matches every CommandTopic, and no ResultTopic.
	AllCommands = commandPrefix + "+/+"
	// AllResults matches every ResultTopic.
	AllResults = commandPrefix + "+/+" + resultSuffix
	// AllAcks matches every AckTopic.
	AllAcks = ackPrefix + "+"
)

// TelemetryTopic carries the samples of a device, QoS 1.
func TelemetryTopic(id DeviceID) string { return telemetryPrefix + id.String() }

// CommandTopic carries commands for a device, QoS 1.
func CommandTopic(id DeviceID) string { return commandPrefix + id.String() }

// ResultTopic carries what became of the commands for a device, QoS 1.
func ResultTopic(id DeviceID) string { return commandPrefix + id.String() + resultSuffix }

// AckTopic carries the Acks of one spooling consumer (an uplink), QoS 1.
func AckTopic(consumer string) string { return ackPrefix + consumer }

// LinkTopic carries the LinkState of a node, retained.
func LinkTopic(node string) string { return linkPrefix + node }

// AlertTopic carries the alerts of a device, QoS 1.
func AlertTopic(id DeviceID) string { return alertPrefix + id.String() }

// DeviceOfTopic returns the device that a telemetry, command, result or alert topic names.
func DeviceOfTopic(topic string) (DeviceID, bool) {
	for _, prefix := range []string{telemetryPrefix, commandPrefix, alertPrefix} {
		rest, ok := strings.CutPrefix(topic, prefix)
		if !ok {
			continue
		}
		if prefix == commandPrefix && strings.Count(rest, "/") == 2 {
			rest = strings.TrimSuffix(rest, resultSuffix)
		}
		id, err := ParseDeviceID(rest)
		return id, err == nil
	}
	return DeviceID{}, false
}
