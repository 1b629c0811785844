// Package declare turns KubeEdge's Device and DeviceModel objects into devices
// ready for a driver. Each field of both is honoured or refused with a sentence;
// Fields says which. It does no I/O.
package declare

import (
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"

	"github.com/twinline/twinline/internal/document"
)

// Bounds of what is read.
const (
	// MaxSize bounds one file or answer, in bytes.
	MaxSize = document.MaxSize
	// MaxObjects bounds the objects of one file or answer.
	MaxObjects = document.MaxObjects
	// MaxProperties bounds the properties of one device, as a sample does (twin.MaxSampleReadings).
	MaxProperties = 4096
	// MaxProblems bounds the problems said of one object: nobody reads more at once.
	MaxProblems = 50
)

// Bounds and defaults of collectCycle, reportCycle and stateReport.reportCycle.
const (
	MinCycle = 10 * time.Millisecond // what a serial line at 115200 baud can do
	MaxCycle = 24 * time.Hour

	// DefaultCollectCycle is used where collectCycle is absent or 0.
	DefaultCollectCycle = time.Second
	// DefaultReportCycle is used where reportCycle is absent or 0, and
	// collectCycle is not longer: more than one twin message per device and second is
	// beyond what EdgeCore carries (30 messages/s of a node).
	DefaultReportCycle = time.Second
)

// Group, Version and the kinds of KubeEdge's device API.
const (
	Group      = "devices.kubeedge.io"
	APIVersion = Group + "/v1beta1"

	kindDevice = "Device"
	kindModel  = "DeviceModel"
)

// Device is one Device object as it was written. Numbers in its configData are
// int64, uint64 above that, or float64. One made by hand from an Object alone is valid.
type Device struct {
	Object v1beta1.Device
	Source string // the file, and which object of it; "" if it is of no file

	refused refusals
}

// Model is one DeviceModel object, as Device is one Device.
type Model struct {
	Object v1beta1.DeviceModel
	Source string

	refused refusals
}

// refusals is what strict decoding found unusable in an object.
type refusals struct {
	whole      bool         // a field outside spec.properties
	properties map[int]bool // by index in spec.properties
}

// Objects is what a file or an answer of an API server holds.
type Objects struct {
	Devices []Device
	Models  []Model
	Skipped int // objects of other kinds: they are somebody else's
}

// Add appends the objects of other.
func (o *Objects) Add(other Objects) {
	o.Devices = append(o.Devices, other.Devices...)
	o.Models = append(o.Models, other.Models...)
	o.Skipped += other.Skipped
}

// Name returns kind, namespace and name as problems give them: "Device default/boiler".
func (d *Device) Name() string {
	return objectName(kindDevice, namespaceOf(d.Object.Namespace), d.Object.Name)
}

// Name returns kind, namespace and name as problems give them: "DeviceModel default/boiler".
func (m *Model) Name() string {
	return objectName(kindModel, namespaceOf(m.Object.Namespace), m.Object.Name)
}
