package devicemgmt

import (
	"context"
	"errors"

	"github.com/kubeedge/api/apis/devices/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/twinline/twinline/pkg/twin"
)

// Cluster is where the KubeEdge objects live: a Kubernetes API server, or the
// desk's stand-in for one.
type Cluster interface {
	// Watch calls changed for every Device, DeviceModel and DeviceStatus
	// (pointers to the v1beta1 types) that is there, then synced once, then
	// changed for every later change, until ctx ends; then it returns nil.
	// Calls do not overlap. With gone, only namespace and name of the object count.
	// The receiver may keep an object and must not change it. What cannot be
	// read now is retried by Watch; Ready tells meanwhile.
	Watch(ctx context.Context, changed func(object metav1.Object, gone bool), synced func()) error

	// SetDesired sets Device.spec.properties[].desired.value of the named
	// properties; nil removes the desired. Nothing else of the Device changes,
	// and nothing at all is written when the values are there already. It returns
	// the Device as stored. Errors are twin.ErrNoDevice, or the
	// Kubernetes API's own: a Conflict when others kept changing the Device, Invalid
	// when an admission policy refuses.
	SetDesired(ctx context.Context, id twin.DeviceID, desired map[string]*string) (*v1beta1.Device, error)

	// Ready says why the cluster cannot be read now, or nil. It does not block.
	Ready() error
}

// Errors by which callers decide.
var (
	// ErrUnauthenticated says that it is not known who asks.
	ErrUnauthenticated = errors.New("a valid bearer token is needed")
	// ErrForbidden says that who asks may not do that.
	ErrForbidden = errors.New("not allowed")
)

// Record is one device for the topic of twins: its id, and its view as JSON or nil
// as a tombstone.
type Record struct {
	Key   string
	Value []byte
}

// Publisher writes to the topic of twins.
type Publisher interface {
	// Publish returns when all records are durable, or with an error, after
	// which any of them may be. It keeps the order of records of one key.
	Publish(ctx context.Context, records []Record) error
}

// Verb is what a request does to devices, in Kubernetes' words.
type Verb string

// The verbs of the API.
const (
	Get   Verb = "get"
	List  Verb = "list"
	Watch Verb = "watch"
	Patch Verb = "patch"
)

// Authenticator decides who may do what. Kubernetes' TokenReview and
// SubjectAccessReview fit it.
type Authenticator interface {
	// Allow returns nil if the bearer of token may do verb on the devices of
	// namespace ("" means all), ErrUnauthenticated, ErrForbidden, or why it cannot tell.
	Allow(ctx context.Context, token string, verb Verb, namespace string) error
}

// Anonymous allows everybody everything: for a desk.
type Anonymous struct{}

// Allow implements Authenticator.
func (Anonymous) Allow(context.Context, string, Verb, string) error { return nil }

// BearerTokens allows everything to who has one of the tokens.
type BearerTokens struct {
	Tokens interface{ Allow(token string) bool }
}

// Allow implements Authenticator.
func (b BearerTokens) Allow(_ context.Context, token string, _ Verb, _ string) error {
	if !b.Tokens.Allow(token) {
		return ErrUnauthenticated
	}
	return nil
}

// TwinText is how values are written into the text of a twin; internal/edgecore
// does the same on the edge.
type TwinText struct {
	// Decode reads a reported text. It never fails: what cannot be read is bad.
	Decode func(t twin.Type, text string) (twin.Value, twin.Quality)
	// Check says why a value could not be reported back, or nil: such a desired
	// value would be pending for ever.
	Check func(t twin.Type, v twin.Value) error
}
