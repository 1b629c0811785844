// Package examples holds manifests that run: the demo starts with those in demo/.
package examples

import (
	"embed"
	"io/fs"
)

//go:embed demo
var files embed.FS

// Files are the example manifests; the demo's are below "demo".
func Files() fs.FS { return files }
