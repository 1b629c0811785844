package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twinline/twinline/internal/app"
)

// tokenInterval is how often the file of tokens is looked at.
const tokenInterval = 5 * time.Second

// tokenFile allows the tokens of a file.
type tokenFile struct {
	file   string
	tokens atomic.Pointer[app.Tokens]
	seen   os.FileInfo // as last read; of follow only
}

// openTokens reads a file of tokens; none in it is an error.
func openTokens(file string) (*tokenFile, error) {
	t := &tokenFile{file: file}
	return t, t.read()
}

func (t *tokenFile) read() error {
	info, err := os.Stat(t.file)
	if err != nil {
		return fmt.Errorf("read tokens: %w", err)
	}
	tokens, err := app.ReadTokens(t.file)
	if err != nil {
		return err
	}
	if len(tokens) == 0 {
		return fmt.Errorf("read tokens: %s has none", t.file)
	}
	t.tokens.Store(&tokens)
	t.seen = info
	return nil
}

// Allow implements Authenticator.
func (t *tokenFile) Allow(_ context.Context, token string) (bool, error) {
	return t.tokens.Load().Allow(token), nil
}

// follow reads the file again when it changes, until ctx ends. While it
// cannot be read, the tokens stay as they were.
func (t *tokenFile) follow(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(tokenInterval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		info, err := os.Stat(t.file)
		if err == nil && os.SameFile(info, t.seen) && info.ModTime().Equal(t.seen.ModTime()) && info.Size() == t.seen.Size() {
			continue
		}
		if err == nil {
			err = t.read()
		}
		switch {
		case err == nil:
			log.Info("tokens read again", "file", t.file, "tokens", len(*t.tokens.Load()))
		case !failed:
			log.Warn("tokens stay as they were", "error", err)
		}
		failed = err != nil
	}
}

// anyone allows everyone.
type anyone struct{}

func (anyone) Allow(context.Context, string) (bool, error) { return true, nil }

// bearer returns the bearer token of a request, or "".
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
