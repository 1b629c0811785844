package devicemgmt

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
)

//go:embed web
var web embed.FS

// contentPolicy lets the page load only its own files, run no inline script or
// style, talk to its own server only, and be framed by nobody.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// addPage serves the web page: three files of our own, embedded as they are. They
// need no token; the data does.
func addPage(mux Mux) {
	for pattern, file := range map[string]string{
		"GET /{$}":       "index.html",
		"GET /app.js":    "app.js",
		"GET /style.css": "style.css",
		"GET /icon.svg":  "icon.svg",
	} {
		data, err := web.ReadFile("web/" + file)
		if err != nil {
			panic(err) // go:embed has them, or this does not compile
		}
		mux.Handle(pattern, asset(file, data))
	}
}

func asset(name string, data []byte) http.Handler {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	kind := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".js" {
		kind = "text/javascript; charset=utf-8" // mime's table depends on the machine
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(data)
	})
}
