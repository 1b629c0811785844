package mapperapp_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/pkg/mapperapp"
	"github.com/twinline/twinline/pkg/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t testing.TB, dir string) *mapperapp.FileStore {
	t.Helper()
	s, err := mapperapp.OpenFileStore(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestTheEpochRisesOverRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first := uint64(0)
	for i := range uint64(4) {
		s := openStore(t, dir)
		got, err := s.NextEpoch()
		require.NoError(t, err)
		if i == 0 {
			first = got
		}
		require.Equal(t, first+i, got)
		require.NoError(t, s.Close())
	}
}

func TestTheEpochsOfTwoStoresDoNotMeet(t *testing.T) {
	const starts = 100
	seen := map[uint64]bool{}
	for range 3 { // the device moves to another node, or the disk is replaced
		s := openStore(t, t.TempDir())
		for range starts {
			epoch, err := s.NextEpoch()
			require.NoError(t, err)
			require.False(t, seen[epoch], "storage would take the samples for those it has")
			seen[epoch] = true
		}
	}
}

func TestTheRecordOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	longest := twin.DeviceID{Namespace: strings.Repeat("n", twin.MaxNamespaceLength), Name: strings.Repeat("x", twin.MaxNameLength)}
	none, err := s.LastDesired(longest)
	require.NoError(t, err)
	require.Empty(t, none)
	want := map[string]string{"setpoint": "21.5", "text": "a\nb\"\x00"}
	require.NoError(t, s.SetLastDesired(longest, map[string]string{"old": "1"}))
	require.NoError(t, s.SetLastDesired(longest, want))
	require.NoError(t, s.Close())
	got, err := openStore(t, dir).LastDesired(longest)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := mapperapp.OpenFileStore(dir)
	require.ErrorIs(t, err, mapperapp.ErrInUse)
	require.NoError(t, s.Close())
	openStore(t, dir)
}

func TestACorruptFileIsNamedWithItsRemedy(t *testing.T) {
	id := twin.DeviceID{Namespace: "default", Name: "boiler"}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut":       func(b []byte) []byte { return b[:len(b)-1] },
		"a bit":     func(b []byte) []byte { b[len(b)-2] ^= 1; return b },
		"more":      func(b []byte) []byte { return append(b, '}') },
		"too large": func(b []byte) []byte { return make([]byte, 5<<20) },
		"not JSON":  func([]byte) []byte { return []byte("00000000\n") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			_, err := s.NextEpoch()
			require.NoError(t, err)
			require.NoError(t, s.SetLastDesired(id, map[string]string{"a": "b"}))
			for _, file := range []string{"epoch", "desired/default/boiler"} {
				path := filepath.Join(dir, file)
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(path, damage(b), 0o600))
				if file == "epoch" {
					_, err = s.NextEpoch()
				} else {
					_, err = s.LastDesired(id)
				}
				require.ErrorIs(t, err, mapperapp.ErrCorrupt)
				require.ErrorContains(t, err, path)
				require.ErrorContains(t, err, "delete it")
				require.NoError(t, os.Remove(path))
			}
			_, err = s.NextEpoch()
			require.NoError(t, err)
		})
	}
}

func TestTheLastEpoch(t *testing.T) {
	const last = `{"epoch":18446744073709551615}`
	dir := t.TempDir()
	s := openStore(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "epoch"), fmt.Appendf(nil, "%08x\n%s", crc32.ChecksumIEEE([]byte(last)), last), 0o600))
	_, err := s.NextEpoch()
	require.ErrorContains(t, err, "there is no epoch after")
}

func TestStateThatCannotBeWrittenIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := mapperapp.OpenFileStore(file)
	require.ErrorContains(t, err, "open state")
	dir := t.TempDir()
	s := openStore(t, dir)
	require.NoError(t, os.RemoveAll(dir))
	_, err = s.NextEpoch()
	require.ErrorContains(t, err, "epoch")
	require.Error(t, s.SetLastDesired(twin.DeviceID{Namespace: "a", Name: "b"}, nil))
	require.ErrorContains(t, openStore(t, t.TempDir()).SetLastDesired(twin.DeviceID{Namespace: "a", Name: "b"}, map[string]string{"x": strings.Repeat("x", 5<<20)}), "at most")
}

func FuzzState(f *testing.F) {
	f.Add([]byte("00000000\n"))
	f.Add([]byte("a2c9c2e4\n{\"epoch\":3}"))
	f.Add([]byte("deadbeef\n{\"a\":1}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		s := openStore(t, dir)
		id := twin.DeviceID{Namespace: "a", Name: "b"}
		require.NoError(t, s.SetLastDesired(id, nil))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "epoch"), b, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "desired/a/b"), b, 0o600))
		if epoch, err := s.NextEpoch(); err == nil {
			again, err := s.NextEpoch()
			require.NoError(t, err)
			require.Equal(t, epoch+1, again)
		}
		if record, err := s.LastDesired(id); err == nil {
			require.NoError(t, s.SetLastDesired(id, record))
			again, err := s.LastDesired(id)
			require.NoError(t, err)
			require.Equal(t, len(record), len(again))
		}
	})
}
