package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// Watch calls changed for every Device, DeviceModel and DeviceStatus of the
// cluster, then synced once, then changed for every change, until ctx ends. Calls
// do not overlap. Broken connections, missing CRDs and missing rights are
// retried for ever; Ready tells of them. An object that does not fit its type is
// handed on with its metadata alone and logged, so that it cannot hide the others.
func (c *Client) Watch(ctx context.Context, changed func(object metav1.Object, gone bool), synced func()) error {
	var mu sync.Mutex
	tell := func(object metav1.Object, gone bool) {
		mu.Lock()
		defer mu.Unlock()
		changed(object, gone)
	}
	kinds := []kind{
		{devices(), func() metav1.Object { return &v1beta1.Device{} }},
		{models(), func() metav1.Object { return &v1beta1.DeviceModel{} }},
		{statuses(), func() metav1.Object { return &v1beta1.DeviceStatus{} }},
	}
	var hasSynced []cache.InformerSynced
	var informers []cache.SharedIndexInformer
	for _, k := range kinds {
		informer, registration, err := c.informer(k, tell)
		if err != nil {
			return err
		}
		informers = append(informers, informer)
		hasSynced = append(hasSynced, registration.HasSynced)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, informer := range informers {
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	if cache.WaitForCacheSync(ctx.Done(), hasSynced...) {
		mu.Lock()
		synced()
		mu.Unlock()
	}
	<-ctx.Done()
	return nil
}

// Ready says which kind of objects cannot be read now, and why, or nil.
func (c *Client) Ready() error { return c.health.check(c.now()) }

// kind is one resource and the type its objects are read into.
type kind struct {
	resource schema.GroupVersionResource
	empty    func() metav1.Object
}

func (c *Client) informer(k kind, tell func(metav1.Object, bool)) (cache.SharedIndexInformer, cache.ResourceEventHandlerRegistration, error) {
	name := k.resource.Resource
	informer := dynamicinformer.NewFilteredDynamicInformer(c.dynamic, k.resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	if err := informer.SetTransform(func(o any) (any, error) { return typed(k, o, c.log), nil }); err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", name, err)
	}
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { c.watchFailed(name, err) }); err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", name, err)
	}
	one := func(o any, gone bool) {
		if object, ok := o.(metav1.Object); ok {
			c.health.clear(name)
			tell(object, gone)
		}
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { one(o, false) },
		UpdateFunc: func(_, o any) { one(o, false) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			one(o, true)
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", name, err)
	}
	return informer, registration, nil
}

// typed turns what the API server sent into the kind's type, so that only that is
// kept in memory. It may see its own results again.
func typed(k kind, o any, log *slog.Logger) any {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return o
	}
	u.SetManagedFields(nil)
	object := k.empty()
	data, err := u.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(data, object)
	}
	if err == nil {
		return object
	}
	log.Warn("an object does not fit its type; only its name is used", "resource", k.resource.Resource,
		"object", u.GetNamespace()+"/"+u.GetName(), "error", err)
	object = k.empty()
	object.SetNamespace(u.GetNamespace())
	object.SetName(u.GetName())
	object.SetUID(u.GetUID())
	object.SetGeneration(u.GetGeneration())
	object.SetResourceVersion(u.GetResourceVersion())
	return object
}

// watchFailed notes an error of list or watch. What belongs to the life of every
// watch is none: it ends now and then, and its place in history expires.
func (c *Client) watchFailed(resource string, err error) {
	if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	if first := c.health.fail(resource, err, c.now()); first {
		c.log.Warn("objects cannot be read; trying again", "resource", resource, "error", err)
	}
}

// failureHolds is how long a failure counts when nothing more is heard. client-go
// tries again within 60 s (30 s and jitter), so silence for longer means that it worked.
const failureHolds = 70 * time.Second

// health keeps the last failure of each resource.
type health struct {
	mu       sync.Mutex
	failures map[string]failure
}

type failure struct {
	err error
	at  time.Time
}

func newHealth() *health { return &health{failures: map[string]failure{}} }

func (h *health) fail(resource string, err error, now time.Time) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, known := h.failures[resource]
	h.failures[resource] = failure{err, now}
	return !known || now.Sub(last.at) > failureHolds
}

func (h *health) clear(resource string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failures, resource)
}

func (h *health) check(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []error
	for resource, f := range h.failures {
		if now.Sub(f.at) <= failureHolds {
			all = append(all, fmt.Errorf("%s cannot be read: %w", resource, f.err))
		}
	}
	return errors.Join(all...)
}
