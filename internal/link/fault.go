package link

import (
	"errors"

	"github.com/twinline/twinline/pkg/mapper"
)

// Fault gives the line's own errors, as Do returns them, their word for a
// quality. Other errors, those of Run, it leaves as they are.
func Fault(err error) error {
	switch {
	case errors.Is(err, ErrSuspended): // by a text: it must not look like a silence of now
		return &mapper.Fault{Why: mapper.Reason(err), Err: errors.New(err.Error())}
	case errors.Is(err, ErrBusy), errors.Is(err, ErrWaited):
		return &mapper.Fault{Why: "busy", Err: err}
	}
	return err
}
