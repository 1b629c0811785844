package mapperapp

import (
	"log/slog"

	"github.com/twinline/twinline/internal/manifests"
	"github.com/twinline/twinline/internal/metaserver"
	"github.com/twinline/twinline/pkg/mapper"
)

// newSource returns where the devices of a protocol come from.
func newSource(c config, protocol string, log *slog.Logger) mapper.Source {
	if c.Manifests != "" {
		return manifests.New(manifests.Config{Dir: c.Manifests, Node: c.Node, Protocol: protocol, Log: log})
	}
	return metaserver.New(metaserver.Config{URL: c.Metaserver, Node: c.Node, Protocol: protocol, Log: log})
}
