package app

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Tokens checks bearer tokens in constant time per token. The zero Tokens allows nobody.
type Tokens []string

// Allow reports whether token is one of them.
func (t Tokens) Allow(token string) bool {
	return token != "" && slices.ContainsFunc(t, func(want string) bool { return equalConstantTime(want, token) })
}

// ReadTokens reads a file with one bearer token a line; empty lines and lines
// that begin with # are left out.
func ReadTokens(file string) (Tokens, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	var tokens Tokens
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			tokens = append(tokens, line)
		}
	}
	return tokens, nil
}

func equalConstantTime(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
