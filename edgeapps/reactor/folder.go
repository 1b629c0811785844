package reactor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinline/twinline/internal/rule"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a rules folder.
const (
	// pollEvery is how often the folder is read. It is not watched: inotify says
	// nothing on some network file systems, and ConfigMaps swap symbolic links.
	pollEvery = time.Second

	maxRuleFiles = 1000
	maxRuleFile  = 1 << 20 // bytes: what a ConfigMap can hold
)

// Folder is a Source: the Reactions in the .yaml, .yml and .json files of a folder.
// A change counts when it is the same for two looks, a second apart, so
// that a file is not read while it is written. Of a file that cannot be read as YAML, and
// of a Reaction that is declared wrongly, the last good version stays; so it does when the
// folder itself cannot be read.
type Folder struct{ dir string }

// NewFolder returns the Source of a folder. It need not exist yet.
func NewFolder(dir string) *Folder { return &Folder{dir: dir} }

// Run implements Source.
func (f *Folder) Run(ctx context.Context, set func([]*rule.Rule, []twin.Problem)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	l := &loader{files: map[string]*ruleFile{}}
	seen, err := f.look()
	l.load(seen, err)
	set(l.rules())
	pending, known := fingerprint(seen, err), fingerprint(seen, err)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		seen, err := f.look()
		now := fingerprint(seen, err)
		if now == pending && now != known {
			known = now
			l.load(seen, err)
			set(l.rules())
		}
		pending = now
	}
}

// look reads the files; names are relative to the folder.
func (f *Folder) look() (map[string][]byte, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a ConfigMap that is not there yet: no rules
	}
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		if len(files) == maxRuleFiles {
			return nil, fmt.Errorf("read rules: more than %d files", maxRuleFiles)
		}
		data, err := readBounded(filepath.Join(f.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone between the two looks
		}
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		files[name] = data
	}
	return files, nil
}

func readBounded(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxRuleFile+1))
	if err == nil && len(data) > maxRuleFile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxRuleFile)
	}
	return data, err
}

// fingerprint is equal for equal contents.
func fingerprint(files map[string][]byte, err error) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q %x\n", name, sha256.Sum256(files[name]))
	}
	fmt.Fprint(h, err)
	return [sha256.Size]byte(h.Sum(nil))
}

// loader keeps the last good version of each file.
type loader struct {
	files   map[string]*ruleFile
	problem *twin.Problem // of the folder itself
}

// ruleFile is one file as it was last read.
type ruleFile struct {
	rules    []*rule.Rule
	problems []twin.Problem
}

// load takes what a look found.
func (l *loader) load(files map[string][]byte, err error) {
	if l.problem = nil; err != nil {
		l.problem = &twin.Problem{Object: "rules", What: err.Error(), Remedy: "make the folder and its files readable, or make them fewer or smaller; the rules of before go on"}
		return
	}
	maps.DeleteFunc(l.files, func(name string, _ *ruleFile) bool { _, there := files[name]; return !there })
	for name, data := range files {
		set, problems := rule.Decode(name, data)
		next := &ruleFile{rules: set.Rules, problems: problems}
		if before := l.files[name]; before != nil {
			for _, r := range before.rules {
				wrong := set.Partial || slices.Contains(set.Wrong, r.Name)
				if wrong && !slices.ContainsFunc(next.rules, func(n *rule.Rule) bool { return n.Name == r.Name }) {
					next.rules = append(next.rules, r)
				}
			}
		}
		l.files[name] = next
	}
}

// rules returns the rules of all files; of two with one name the first holds.
func (l *loader) rules() (list []*rule.Rule, problems []twin.Problem) {
	if l.problem != nil {
		problems = append(problems, *l.problem)
	}
	from := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		f := l.files[name]
		problems = append(problems, f.problems...)
		for _, r := range f.rules {
			if first, twice := from[r.Name]; twice {
				problems = append(problems, twin.Problem{Object: rule.Kind + " " + r.Name, Field: "metadata.name", What: fmt.Sprintf("declared twice: in %s and in %s", first, r.Source), Remedy: "keep one of them; the first holds"})
				continue
			}
			from[r.Name] = r.Source
			list = append(list, r)
		}
	}
	return list, problems
}
