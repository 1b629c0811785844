// Package forward is the way of telemetry from a node to the cloud: the batch as
// it is on the wire, the acknowledgement that comes back, and the two ways to carry
// them, KubeEdge's ServiceBus and HTTPS. FORMAT.md specifies the bytes.
package forward
