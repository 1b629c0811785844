package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"

	"github.com/twinline/twinline/pkg/twin"
)

// conflictRetries bounds how often SetDesired begins anew when someone else
// changed the Device in between: 10 ms, doubled, about 0.6 s in all.
func conflictRetries() wait.Backoff {
	return wait.Backoff{Steps: 7, Duration: 10 * time.Millisecond, Factor: 2, Jitter: 0.5}
}

// SetDesired sets, or with nil removes, the desired values of the named
// properties, and notes the time beside them. It changes nothing else of the Device, also
// not fields this version does not know, and writes nothing if the values
// are there already. spec.properties is a list without merge keys, so the whole
// object is read and written back under its resourceVersion, and again on a
// conflict. The error is twin.ErrNoDevice, or the API server's.
func (c *Client) SetDesired(ctx context.Context, id twin.DeviceID, desired map[string]*string) (*v1beta1.Device, error) {
	client := c.dynamic.Resource(devices()).Namespace(id.Namespace)
	var stored *unstructured.Unstructured
	err := retry.RetryOnConflict(conflictRetries(), func() error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		object, err := client.Get(ctx, id.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		stored = object
		changed, err := setDesired(object, desired, c.now())
		if err != nil || !changed {
			return err
		}
		stored, err = client.Update(ctx, object, metav1.UpdateOptions{FieldManager: "twinline-devicemgmt"})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("set desired of %s: %w", id, twin.ErrNoDevice)
	}
	if err != nil {
		return nil, fmt.Errorf("set desired of %s: %w", id, err)
	}
	var device v1beta1.Device
	data, err := stored.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(data, &device)
	}
	if err != nil {
		return nil, fmt.Errorf("set desired of %s: read the answer: %w", id, err)
	}
	return &device, nil
}

// setDesired changes the object and reports whether it did. A property that the
// Device does not list is added, to be reported to the cloud: what is desired must be
// seen to be done. Only its name is needed, the rest comes from the model.
func setDesired(object *unstructured.Unstructured, desired map[string]*string, now time.Time) (bool, error) {
	list, _, err := unstructured.NestedSlice(object.Object, "spec", "properties")
	if err != nil {
		return false, err
	}
	changed := false
	seen := map[string]bool{}
	for _, item := range list {
		property, ok := item.(map[string]any)
		if !ok {
			continue
		}
		name, _ := property["name"].(string)
		if want, ok := desired[name]; ok && !seen[name] {
			changed = setProperty(property, want, now) || changed
			seen[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(desired)) {
		if want := desired[name]; want != nil && !seen[name] {
			property := map[string]any{"name": name, "reportToCloud": true}
			setProperty(property, want, now)
			list = append(list, property)
			changed = true
		}
	}
	if !changed {
		return false, nil
	}
	return true, unstructured.SetNestedSlice(object.Object, list, "spec", "properties")
}

func setProperty(property map[string]any, want *string, now time.Time) bool {
	if want == nil {
		_, had := property["desired"]
		delete(property, "desired")
		return had
	}
	old, _ := property["desired"].(map[string]any)
	if value, ok := old["value"].(string); ok && value == *want {
		return false
	}
	metadata, _ := old["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["timestamp"] = strconv.FormatInt(now.UnixMilli(), 10)
	property["desired"] = map[string]any{"value": *want, "metadata": metadata}
	return true
}
