package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// testDeviceMgmt sets a desired value by HTTP, finds it in the register and on
// the topic of twins, and is refused what may not be.
func (p *plant) testDeviceMgmt(t *testing.T) {
	on(t, kubernetes, kubeEdge, kafkaBroker, "mbpoll of Debian")
	p.concerns(t, "devicemgmt", "modbus-mapper")
	ctx := t.Context()
	url := "http://" + p.api["devicemgmt"] + "/api/v1/devices/" + p.Namespace + "/furnace-2"
	var status *statusError
	if _, err := call(ctx, http.MethodGet, url, "", ""); !errors.As(err, &status) || status.code != http.StatusUnauthorized {
		t.Errorf("without a token: %v, want 401", err)
	}
	if body, err := call(ctx, http.MethodPatch, url, p.token, `{"desired":{"setpoint":123.25,"mode":"off"}}`); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	eventually(t, 60*time.Second, "the registers change", func() error {
		return shows(ctx, p.FurnaceLine, 2, holdingTable, 12, 0x0080, 0xf642, 0) // 123.25 is 42f68000
	})
	eventually(t, 30*time.Second, "devicemgmt shows them in sync", func() error {
		return p.synced(t, url, "setpoint", "123.25")
	})
	_, err := p.consume(ctx, twinsTopic, func(r *kgo.Record) bool {
		return string(r.Key) == p.id("furnace-2") && p.reports(r.Value, "setpoint", "123.25")
	})
	if err != nil {
		t.Error(err)
	}
	for _, wrong := range []struct{ body, field, what string }{
		{`{"desired":{"setpoint":1000}}`, "desired.setpoint", "400"},
		{`{"desired":{"setpoint":"hot"}}`, "desired.setpoint", "hot"},
		{`{"desired":{"mode":"turbo","nothing":1}}`, "desired.nothing", "no such property"},
		{`{"desired":{"temperature":20}}`, "desired.temperature", "read-only"},
	} {
		p.refusedPatch(t, url, wrong.body, wrong.field, wrong.what)
	}
	if err := shows(ctx, p.FurnaceLine, 2, holdingTable, 12, 0x0080, 0xf642, 0); err != nil {
		t.Errorf("after refused values: %v", err)
	}
}

// refusedPatch sets a value that may not be: 422, with object, field and remedy.
func (p *plant) refusedPatch(t *testing.T, url, body, field, what string) {
	t.Helper()
	_, err := call(t.Context(), http.MethodPatch, url, p.token, body)
	var status *statusError
	if !errors.As(err, &status) || status.code != http.StatusUnprocessableEntity {
		t.Errorf("%s: %v, want 422", body, err)
		return
	}
	_, text, _ := strings.Cut(status.text, "Entity: ")
	var answer struct {
		Problems []struct{ Object, Field, What, Remedy string }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Errorf("%s: %v: %s", body, err, text)
		return
	}
	for _, problem := range answer.Problems {
		if problem.Object == "Device "+p.id("furnace-2") && problem.Field == field && strings.Contains(problem.What, what) && problem.Remedy != "" {
			return
		}
	}
	t.Errorf("%s: %+v, want one of %s that says %q and a remedy", body, answer.Problems, field, what)
}

// view is what the suite needs of devicemgmt's view of a device.
type view struct {
	Properties []struct {
		Name     string
		Reported *struct{ Value json.RawMessage }
		Sync     struct{ State string }
	}
}

// reports tells whether a view has a reported value.
func (p *plant) reports(data []byte, property, value string) bool {
	var v view
	if json.Unmarshal(data, &v) != nil {
		return false
	}
	for _, have := range v.Properties {
		if have.Name == property {
			return have.Reported != nil && equal(strings.Trim(string(have.Reported.Value), `"`), value)
		}
	}
	return false
}

// synced returns nil when a property shows what is desired.
func (p *plant) synced(t *testing.T, url, property, value string) error {
	t.Helper()
	body, err := call(t.Context(), http.MethodGet, url, p.token, "")
	if err != nil {
		return err
	}
	var v view
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return err
	}
	for _, have := range v.Properties {
		if have.Name == property && have.Sync.State == "synced" && p.reports([]byte(body), property, value) {
			return nil
		}
	}
	return fmt.Errorf("%s is not in sync with %s: %s", property, value, body)
}
