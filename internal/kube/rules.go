package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/twinline/twinline/internal/service"
)

// RulesConfig says where the telemetry of the edge nodes goes.
type RulesConfig struct {
	Namespace string // of the Rules and RuleEndpoints
	Target    string // URL of the telemetry service, as CloudCore reaches it
	Source    string // the target_url that uplink names in its requests
}

// DefaultRuleSource is the target_url of the Rules: what uplink posts to.
const DefaultRuleSource = "/twinline/telemetry"

// Names and marks of what Rules makes.
const (
	edgeNodes       = "node-role.kubernetes.io/edge"
	ownerLabel      = "app.kubernetes.io/managed-by"
	ownerName       = "twinline-devicemgmt"
	rulePrefix      = "twinline-telemetry-"
	sourceEndpoint  = "twinline-servicebus"
	targetEndpoint  = "twinline-rest"
	nodeAnnotation  = "twinline.io/node-uid"
	readyAnnotation = "twinline.io/ready-since"
)

// Bounds of the controller.
const (
	resyncNodes  = 10 * time.Minute // every node is looked at again: a Rule someone deleted comes back
	maxNameBytes = 253              // of a Kubernetes object
)

// Rules is a service that keeps one Rule servicebus→rest for every edge node that
// is ready, so that uplink's batches reach the telemetry service.
//
// KubeEdge tells a node of its Rule once, when the Rule is made, and without an
// acknowledgement; it ignores changed Rules. So a Rule is made only while its
// node is ready, is made anew when its content is not as it should be, and made
// anew each time the node comes back: that it was away may have cost it the message. Uplink
// sees its posts refused for that moment and sends them again. Two replicas may run
// at once: every step is conditional on what it saw.
type Rules struct {
	*service.Runner
	client *Client
	config RulesConfig
	log    *slog.Logger
}

// NewRules returns the service. The error says what is wrong with the configuration.
func NewRules(client *Client, config RulesConfig, log *slog.Logger) (*Rules, error) {
	target, err := url.Parse(config.Target)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Host == "" {
		return nil, fmt.Errorf("telemetry URL %q: want http://host/path or https://host/path", config.Target)
	}
	if config.Namespace == "" || config.Source == "" {
		return nil, errors.New("rules need a namespace and a source URL")
	}
	r := &Rules{client: client, config: config, log: log}
	r.Runner = service.New("rules", r.body)
	return r, nil
}

func (r *Rules) body(ctx context.Context, ready func()) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	informer := dynamicinformer.NewFilteredDynamicInformer(r.client.dynamic, nodes(), metav1.NamespaceAll, resyncNodes, cache.Indexers{},
		func(o *metav1.ListOptions) { o.LabelSelector = edgeNodes }).Informer()
	if err := informer.SetTransform(func(o any) (any, error) { return slimNode(o), nil }); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { r.client.watchFailed("nodes", err) }); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	enqueue := func(o any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			queue.Add(key)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue,
		UpdateFunc: func(old, o any) {
			if worthALook(old, o) {
				enqueue(o)
			}
		},
		DeleteFunc: enqueue,
	}); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		informer.RunWithContext(ctx)
	}()
	ready()
	unblock := context.AfterFunc(ctx, queue.ShutDown)
	defer unblock()
	for r.next(ctx, queue, informer.GetStore()) {
	}
	<-stopped
	return nil
}

// next deals with one node; false when the queue is shut down.
func (r *Rules) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], store cache.Store) bool {
	name, down := queue.Get()
	if down {
		return false
	}
	defer queue.Done(name)
	object, exists, err := store.GetByKey(name)
	node, _ := object.(*edgeNode)
	if err == nil && exists && node != nil {
		err = r.reconcile(ctx, node)
	} else if err == nil {
		err = r.remove(ctx, name)
	}
	if err != nil && ctx.Err() == nil {
		if queue.NumRequeues(name) == 0 {
			r.log.Warn("the telemetry rule of a node cannot be kept; trying again", "node", name, "error", err)
		}
		queue.AddRateLimited(name)
		return true
	}
	queue.Forget(name)
	return true
}

// edgeNode is what Rules needs to know of a Node.
type edgeNode struct {
	metav1.ObjectMeta
	readySince string // lastTransitionTime of the Ready condition; "" if not ready
}

// worthALook leaves out the heartbeats of nodes: several a minute of each. A
// resync, which gives the same object again, is worth one.
func worthALook(old, now any) bool {
	a, okA := old.(*edgeNode)
	b, okB := now.(*edgeNode)
	return !okA || !okB || a.UID != b.UID || a.readySince != b.readySince || a.ResourceVersion == b.ResourceVersion
}

// slimNode keeps of a Node only what counts: whole ones are some kilobytes each.
func slimNode(o any) any {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return o
	}
	n := &edgeNode{ObjectMeta: metav1.ObjectMeta{Name: u.GetName(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion()}}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range conditions {
		c, _ := item.(map[string]any)
		if c["type"] == string(corev1.NodeReady) && c["status"] == string(corev1.ConditionTrue) {
			n.readySince, _ = c["lastTransitionTime"].(string)
		}
	}
	return n
}

// reconcile makes the node's Rule as it should be. While the node is away nothing
// is done: it would not hear of it.
func (r *Rules) reconcile(ctx context.Context, node *edgeNode) error {
	if node.readySince == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, e := range []struct{ name, kind string }{{sourceEndpoint, "servicebus"}, {targetEndpoint, "rest"}} {
		if err := r.ensureEndpoint(ctx, e.name, e.kind); err != nil {
			return err
		}
	}
	want := r.rule(node)
	client := r.in(rules())
	have, err := client.Get(ctx, want.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("get rule %s: %w", want.GetName(), err)
	case have.GetLabels()[ownerLabel] != ownerName:
		return fmt.Errorf("rule %s is not labelled %s=%s: someone else made it; rename or delete it", want.GetName(), ownerLabel, ownerName)
	case sameRule(want, have):
		return nil
	default:
		if err := r.delete(ctx, have); err != nil {
			return err
		}
	}
	if _, err := client.Create(ctx, want, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create rule %s: %w", want.GetName(), err)
	}
	r.log.Info("telemetry rule made", "node", node.Name, "rule", want.GetName(), "ready_since", node.readySince)
	return nil
}

// remove deletes the Rule of a node that is gone or no longer an edge node.
func (r *Rules) remove(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	have, err := r.in(rules()).Get(ctx, ruleName(node), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get rule %s: %w", ruleName(node), err)
	}
	if have.GetLabels()[ownerLabel] != ownerName {
		return nil
	}
	return r.delete(ctx, have)
}

// delete deletes exactly the object that was seen.
func (r *Rules) delete(ctx context.Context, rule *unstructured.Unstructured) error {
	uid := rule.GetUID()
	err := r.in(rules()).Delete(ctx, rule.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete rule %s: %w", rule.GetName(), err)
	}
	return nil
}

func (r *Rules) ensureEndpoint(ctx context.Context, name, endpointType string) error {
	client := r.in(endpoints())
	have, err := client.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		if is, _, _ := unstructured.NestedString(have.Object, "spec", "ruleEndpointType"); is != endpointType {
			return fmt.Errorf("rule endpoint %s is of type %q, want %q: delete it", name, is, endpointType)
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("get rule endpoint %s: %w", name, err)
	}
	want := r.object("RuleEndpoint", name, map[string]any{"ruleEndpointType": endpointType, "properties": map[string]any{}})
	if _, err := client.Create(ctx, want, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create rule endpoint %s: %w", name, err)
	}
	return nil
}

func (r *Rules) rule(node *edgeNode) *unstructured.Unstructured {
	u := r.object("Rule", ruleName(node.Name), map[string]any{
		"source":         sourceEndpoint,
		"sourceResource": map[string]any{"target_url": r.config.Source, "node_name": node.Name},
		"target":         targetEndpoint,
		"targetResource": map[string]any{"resource": r.config.Target},
	})
	u.SetAnnotations(map[string]string{nodeAnnotation: string(node.UID), readyAnnotation: node.readySince})
	return u
}

func (r *Rules) object(kind, name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetAPIVersion(rules().GroupVersion().String())
	u.SetKind(kind)
	u.SetNamespace(r.config.Namespace)
	u.SetName(name)
	u.SetLabels(map[string]string{ownerLabel: ownerName})
	return u
}

func (r *Rules) in(resource schema.GroupVersionResource) dynamic.ResourceInterface {
	return r.client.dynamic.Resource(resource).Namespace(r.config.Namespace)
}

// sameRule reports whether have says what want says and was made for the same
// stretch of readiness of the same node.
func sameRule(want, have *unstructured.Unstructured) bool {
	for _, key := range []string{nodeAnnotation, readyAnnotation} {
		if want.GetAnnotations()[key] != have.GetAnnotations()[key] {
			return false
		}
	}
	for _, field := range []string{"source", "target"} {
		a, _, _ := unstructured.NestedString(want.Object, "spec", field)
		b, _, _ := unstructured.NestedString(have.Object, "spec", field)
		x, _, _ := unstructured.NestedStringMap(want.Object, "spec", field+"Resource")
		y, _, _ := unstructured.NestedStringMap(have.Object, "spec", field+"Resource")
		if a != b || !maps.Equal(x, y) {
			return false
		}
	}
	return true
}

// ruleName names the Rule of a node; the name of a node with a very long one
// ends in a hash.
func ruleName(node string) string {
	name := rulePrefix + node
	if len(name) <= maxNameBytes {
		return name
	}
	sum := sha256.Sum256([]byte(node))
	return name[:maxNameBytes-9] + "-" + hex.EncodeToString(sum[:4])
}
