package stack

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A module with a replace block cannot be built by `go install module@version`.
// The stack builds such programs in a module of its own, which takes over the
// requirements of the original and puts versions where it replaced by folders.

// kubernetesMod returns the go.mod to build k8s.io/kubernetes at version with.
// Its staging modules are published as v0.MINOR.PATCH.
func kubernetesMod(original, version string) (string, error) {
	staging, ok := strings.CutPrefix(version, "v1.")
	if !ok {
		return "", fmt.Errorf("rewrite go.mod of Kubernetes: version %q does not start with v1", version)
	}
	folder := regexp.MustCompile(`(?m)^(\t?(?:replace )?)(k8s\.io/\S+) => \./staging/\S+$`)
	text := folder.ReplaceAllString(original, "${1}${2} => ${2} v0."+staging)
	return wrapMod(text, "k8s.io/kubernetes", version)
}

// kubeEdgeMod returns the go.mod to build github.com/kubeedge/kubeedge with.
// libraries is the version of its api and beehive modules.
func kubeEdgeMod(original, version, libraries string) (string, error) {
	folder := regexp.MustCompile(`(?m)^(\t?(?:replace )?)(github\.com/kubeedge/\S+) => \./staging/\S+$`)
	text := folder.ReplaceAllString(original, "${1}${2} => ${2} "+libraries)
	return wrapMod(text, "github.com/kubeedge/kubeedge", version)
}

// wrapMod renames the module and makes it require the original one.
func wrapMod(text, module, version string) (string, error) {
	if strings.Contains(text, "=> ./") {
		return "", fmt.Errorf("rewrite go.mod of %s: a folder is still replaced in", module)
	}
	header := regexp.MustCompile(`(?m)^module \S+$`)
	if !header.MatchString(text) {
		return "", errors.New("rewrite go.mod of " + module + ": no module line")
	}
	text = header.ReplaceAllLiteralString(text, "module twinline.invalid/build")
	block := strings.Index(text, "require (\n")
	if block < 0 {
		return "", fmt.Errorf("rewrite go.mod of %s: no require block", module)
	}
	block += len("require (\n")
	return text[:block] + "\t" + module + " " + version + "\n" + text[block:], nil
}

// toolsFile returns a Go file that imports programs, so that -mod=mod keeps
// what they need in go.mod.
func toolsFile(packages []string) string {
	var b strings.Builder
	b.WriteString("//go:build tools\n\npackage tools\n\nimport (\n")
	for _, p := range packages {
		fmt.Fprintf(&b, "\t_ %q\n", p)
	}
	b.WriteString(")\n")
	return b.String()
}

// versionFlags returns linker flags that set a Kubernetes style version package.
func versionFlags(pkg, version string) string {
	major, minor := "", ""
	if parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3); len(parts) == 3 {
		major, minor = parts[0], parts[1]
	}
	set := func(name, value string) string { return fmt.Sprintf(" -X %s.%s=%s", pkg, name, value) }
	return "-s -w" + set("gitVersion", version) + set("gitMajor", major) + set("gitMinor", minor) +
		set("gitCommit", version) + set("gitTreeState", "clean")
}
