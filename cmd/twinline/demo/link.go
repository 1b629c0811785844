package demo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/twinline/twinline/edgeapps/uplink"
	"github.com/twinline/twinline/internal/desk"
	"github.com/twinline/twinline/internal/forward"
)

// errCut is what uplink sees while the link is cut.
var errCut = errors.New("the cloud link is cut")

// gate is uplink's way to the cloud with a switch: the desk's link.
type gate struct {
	desk *desk.Desk
	next uplink.Sender
}

// Send implements uplink.Sender.
func (g *gate) Send(ctx context.Context, batch []byte) (forward.Ack, error) {
	if !g.desk.Link().Up {
		return forward.Ack{}, errCut
	}
	return g.next.Send(ctx, batch)
}

// maxLinkBody bounds POST /demo/link, in bytes.
const maxLinkBody = 1 << 10

// linkHandler shows and switches the link: GET and POST {"up":false}.
func linkHandler(d *desk.Desk) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			var want struct {
				Up *bool `json:"up"`
			}
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLinkBody))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&want); err != nil || want.Up == nil {
				http.Error(w, `send {"up":true} or {"up":false}`, http.StatusBadRequest)
				return
			}
			d.SetLink(*want.Up)
		}
		answer(w, d.Link())
	})
}

// aboutHandler says what is embedded.
func aboutHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		about := struct {
			Note  string   `json:"note"`
			Parts []string `json:"parts"`
		}{Note: "Everything on this page comes from one process. Mapper, reactor, uplink, telemetry, storage and devicemgmt are the packages of the binaries; their neighbours are embedded."}
		for _, p := range parts() {
			about.Parts = append(about.Parts, p.name+": "+p.embedded+". In production: "+p.production+".")
		}
		answer(w, about)
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
