package reactor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/pkg/twin"
)

// watched is a folder that is read by a Folder in a synctest bubble.
type watched struct {
	t        *testing.T
	dir      string
	mu       sync.Mutex
	sets     int
	rules    []*rule.Rule
	problems []twin.Problem
}

func watch(t *testing.T, dir string) *watched {
	w := &watched{t: t, dir: dir}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- NewFolder(dir).Run(ctx, func(rules []*rule.Rule, problems []twin.Problem) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.sets++
			w.rules, w.problems = rules, problems
		})
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	synctest.Wait()
	return w
}

func (w *watched) write(name, text string) {
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
}

// settle waits until a change has been seen twice.
func (w *watched) settle() {
	time.Sleep(3 * pollEvery)
	synctest.Wait()
}

func (w *watched) names() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, r := range w.rules {
		names = append(names, strings.TrimPrefix(r.Name, "default/"))
	}
	return strings.Join(names, " ")
}

// look returns how often the rules were set, and the last of them.
func (w *watched) look() (sets int, rules []*rule.Rule, problems []twin.Problem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sets, w.rules, w.problems
}

func (w *watched) mistakes() []twin.Problem {
	_, _, problems := w.look()
	return problems
}

func (w *watched) count() int {
	sets, _, _ := w.look()
	return sets
}

func (w *watched) rule(i int) *rule.Rule {
	_, rules, _ := w.look()
	return rules[i]
}

func named(name string) string { return strings.Replace(coolBoiler, "name: cool", "name: "+name, 1) }

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(named("a1")+"---"+named("a2")), 0o600))
		w := watch(t, dir)
		require.Equal(t, "a1 a2", w.names(), "the first look is not waited for")
		w.write("b.yml", named("b"))
		w.write("notes.md", "no: [rules")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "..data", "x.yaml"), 0o700))
		w.settle()
		require.Equal(t, "a1 a2 b", w.names())
		require.Equal(t, 2, w.count())

		before := w.rule(2)
		w.write("b.yml", strings.Replace(named("b"), "temp > 80", "temp >", 1))
		w.settle()
		require.Equal(t, "a1 a2 b", w.names(), "the last good version stays")
		require.Same(t, before, w.rule(2))
		require.Len(t, w.mistakes(), 1)

		w.write("a.yaml", (named("a1") + "---" + named("a2"))[:120])
		w.settle()
		require.Equal(t, "a1 a2 b", w.names(), "half a file changes nothing")
		require.Len(t, w.mistakes(), 2)

		w.write("a.yaml", named("a2"))
		w.write("b.yml", named("b"))
		w.settle()
		require.Equal(t, "a2 b", w.names())
		require.Empty(t, w.mistakes())

		require.NoError(t, os.Remove(filepath.Join(dir, "b.yml")))
		w.settle()
		require.Equal(t, "a2", w.names())
		w.write("c.json", named("a2"))
		w.settle()
		require.Equal(t, "a2", w.names())
		require.Equal(t, "declared twice: in a.yaml and in c.json", w.mistakes()[0].What)
	})
}

func TestFolderWaitsForAFileToBeWritten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(named("a")), 0o600))
		w := watch(t, dir)
		w.write("a.yaml", "") // truncated, and written a moment later
		time.Sleep(pollEvery)
		synctest.Wait()
		w.write("a.yaml", named("a")+"---"+named("b"))
		time.Sleep(pollEvery)
		synctest.Wait()
		require.Equal(t, "a", w.names())
		w.settle()
		require.Equal(t, "a b", w.names())
		require.Equal(t, 2, w.count())
	})
}

func TestFolderBounds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, filepath.Join(dir, "rules"))
		require.Equal(t, "", w.names())
		require.Empty(t, w.mistakes(), "a folder that is not there yet has no rules")
		require.NoError(t, os.Mkdir(w.dir, 0o700))
		w.write("a.yaml", named("a"))
		w.settle()
		require.Equal(t, "a", w.names())
		w.write("big.yaml", strings.Repeat("#", maxRuleFile+1))
		w.settle()
		require.Equal(t, "a", w.names(), "the rules of before go on")
		require.Len(t, w.mistakes(), 1)
		w.write("big.yaml", strings.Repeat("#", maxRuleFile))
		w.settle()
		require.Empty(t, w.mistakes())
		for i := range maxRuleFiles {
			w.write(fmt.Sprintf("%d.yaml", i), "")
		}
		w.settle()
		require.Len(t, w.mistakes(), 1)
		require.Equal(t, "a", w.names())
	})
}
