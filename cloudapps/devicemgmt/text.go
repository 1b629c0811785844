package devicemgmt

import (
	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/pkg/twin"
)

// EdgeCoreText is how Twinline's mappers write twins. What another mapper wrote is
// read too, if it is text of the property's type.
func EdgeCoreText() TwinText {
	return TwinText{
		Decode: func(t twin.Type, text string) (twin.Value, twin.Quality) {
			v, err := twin.ParseValue(t, edgecore.Decode(text))
			if err != nil {
				return twin.Value{}, twin.Bad("format")
			}
			return v, twin.Good
		},
		Check: func(t twin.Type, v twin.Value) error {
			_, err := edgecore.EncodeValue(t, v)
			return err
		},
	}
}
