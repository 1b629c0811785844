package simulate

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const manifests = `apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: board, namespace: default}
spec:
  protocol: serial
  properties:
  - {name: temperature, type: DOUBLE, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: board-1, namespace: default}
spec:
  deviceModelRef: {name: board}
  nodeName: edge-1
  protocol:
    protocolName: serial
    configData: {url: "serial://LINE?baud=9600"}
  properties:
  - name: temperature
    collectCycle: 20
    visitors: {protocolName: serial, configData: {name: TEMP}}
---
apiVersion: twinline.io/v1alpha1
kind: Simulation
metadata: {name: waves}
spec:
  devices:
    default/board-1:
      properties: {temperature: {wave: constant, value: 21.5}}
`

func TestASerialDeviceIsSimulated(t *testing.T) {
	dir := t.TempDir()
	line := filepath.Join(dir, "tty")
	file := filepath.Join(dir, "devices.yaml")
	require.NoError(t, os.WriteFile(file, bytesOf(manifests, line), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cmd := NewCommand()
	require.Contains(t, cmd.Long, "protocol serial")
	out, in := io.Pipe()
	cmd.SetOut(in)
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"-f", file})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	said, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "simulating serial "+line+" (1 devices)\n", said)
	port, err := os.OpenFile(line, os.O_RDWR, 0)
	require.NoError(t, err)
	said, err = bufio.NewReader(port).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "TEMP=21.5\n", said)
	require.NoError(t, port.Close())
	cancel()
	require.NoError(t, <-ended)
	require.NoFileExists(t, line)
}

func bytesOf(manifests, line string) []byte {
	return []byte(strings.ReplaceAll(manifests, "LINE", line))
}
