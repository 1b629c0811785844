package stack

import (
	"path/filepath"
	"strings"
)

// Env returns shell lines that export where everything is. Evaluating them in a
// shell makes kubectl, mosquitto_sub and psql work on the stack.
func (s *Stack) Env() string {
	var b strings.Builder
	for _, v := range [][2]string{
		{"TWINLINE_STACK_DIR", s.Dir},
		{"KUBECONFIG", s.Kubeconfig},
		{"NODE", s.Node},
		{"BROKER", s.Broker},
		{"KAFKA", s.Kafka},
		{"DATABASE", s.Database},
		{"METASERVER", s.MetaServer},
		{"SERVICEBUS", s.ServiceBus},
		{"ROUTER", s.Router},
		{"CONTAINERD_ADDRESS", s.containerdSocket()},
		{"CONTAINERD_NAMESPACE", ctrNamespace},
	} {
		b.WriteString("export " + v[0] + "=" + shellQuote(v[1]) + "\n")
	}
	b.WriteString("export PATH=" + shellQuote(filepath.Dir(s.KubectlPath)) + `:"$PATH"` + "\n")
	return b.String()
}

// shellQuote quotes text for a POSIX shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
