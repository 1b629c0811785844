package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/serial"
)

// Opener opens the line of an endpoint; the commands take the mapper's.
type Opener func(e serial.Endpoint) serial.Dialer

// openTimeout bounds the opening of a device server.
const openTimeout = 5 * time.Second

// MaxHeard bounds what is kept of a line, in bytes.
const MaxHeard = 1 << 20

// ParseTarget reads a URL, or the path of a port, which stands for serial://PATH.
func ParseTarget(text string) (serial.Endpoint, error) {
	if strings.HasPrefix(text, "/") {
		text = "serial://" + text
	}
	usual, _ := serial.Usual("")
	return serial.ParseURL(text, usual)
}

// Listen opens a line, sends what is to be sent, and returns what came within
// length, or until ctx ends; 0: without end. see, if not nil, is called with each part as it comes. An error goes with what was heard before.
func Listen(ctx context.Context, dial serial.Dialer, send []byte, length time.Duration, see func(serial.Chunk)) ([]serial.Chunk, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	stream, err := dial(opening)
	cancel()
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }() // it was only read
	defer context.AfterFunc(ctx, func() { _ = stream.SetReadDeadline(time.Unix(1, 0)) })()
	if length > 0 {
		_ = stream.SetReadDeadline(time.Now().Add(length)) // an error shows in Read
	}
	if len(send) > 0 {
		_ = stream.SetWriteDeadline(time.Now().Add(openTimeout))
		if _, err := stream.Write(send); err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
	}
	var heard []serial.Chunk
	kept := 0
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		n, err := stream.Read(buf)
		if n > 0 {
			c := serial.Chunk{At: time.Now(), Data: append([]byte(nil), buf[:n]...)}
			if see != nil {
				see(c)
			}
			if kept += n; kept <= MaxHeard {
				heard = append(heard, c)
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return heard, nil
		case err != nil:
			return heard, err
		}
	}
	return heard, nil
}
