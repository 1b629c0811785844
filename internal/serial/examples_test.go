package serial_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/declare"
	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/serial"
	"github.com/twinline/twinline/internal/simulator"
	mapperserial "github.com/twinline/twinline/mappers/serial"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// serves returns the devices that manifests declare, of which nothing is wrong.
func serves(t *testing.T, manifests string) []twin.Device {
	t.Helper()
	objects, problems := declare.Decode("manifests", []byte(manifests))
	require.Empty(t, problems)
	devices, problems := declare.Resolve(objects.Devices, objects.Models)
	require.Empty(t, problems)
	require.NotEmpty(t, devices)
	for i := range devices {
		decl, problems := serial.Parse(&devices[i])
		require.Empty(t, problems)
		require.Len(t, decl.Fields, len(devices[i].Properties))
		require.NotEmpty(t, decl.Fields)
	}
	return devices
}

// examples returns the devices of examples/serial, on lines of their own, and how they behave.
func examples(t *testing.T) ([]twin.Device, simulator.Script) {
	t.Helper()
	files, err := filepath.Glob("../../examples/serial/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var script simulator.Script
	all := ""
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Empty(t, simulator.DecodeScript(file, text, &script))
		all += string(text) + "\n---\n"
	}
	devices := serves(t, all)
	dir := t.TempDir()
	for i := range devices {
		devices[i].Config["url"] = "serial://" + filepath.Join(dir, devices[i].ID.Name)
	}
	return devices, script
}

func TestTheExamplesAreReadFromTheirSimulation(t *testing.T) {
	devices, script := examples(t)
	s, problems := simulator.New(devices, script, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	driver := mapperserial.New()
	for _, d := range devices {
		conn, problems := driver.Open(d)
		require.Empty(t, problems)
		defer func() { require.NoError(t, conn.Close()) }()
		names, missing := []string{}, map[string]bool{}
		for _, p := range d.Properties {
			names, missing[p.Name] = append(names, p.Name), true
		}
		for len(missing) > 0 {
			require.NoError(t, ctx.Err(), "%s: nothing of %v", d.ID, missing)
			readings, err := conn.Read(ctx, names)
			for _, r := range readings {
				if err == nil && r.Quality != mapper.NothingNew {
					require.True(t, r.Quality.IsGood(), "%s is %s", r.Property, r.Quality)
					delete(missing, r.Property)
				}
			}
		}
		for _, p := range d.Properties {
			if p.Writable {
				held, err := conn.Write(ctx, p.Name, p.Minimum)
				require.NoError(t, err)
				require.Equal(t, p.Minimum, held)
			}
		}
	}
}

// particles is a frame laid out as the data sheet of the Plantower PMS5003 says: 13 words behind the length, and the sum of all before it.
const particles = "\x42\x4D\x00\x1C\x00\x04\x00\x06\x00\x07\x00\x05\x00\x08\x00\x09\x02\xD9\x00\xC4\x00\x23\x00\x06\x00\x02\x00\x00\x97\x00\x03\x33"

func TestTheParticleSensorIsReadAsItsDataSheetSays(t *testing.T) {
	devices, _ := examples(t)
	at := slices.IndexFunc(devices, func(d twin.Device) bool { return d.ID.Name == "particles-1" })
	require.GreaterOrEqual(t, at, 0)
	decl, problems := serial.Parse(&devices[at])
	require.Empty(t, problems)
	scanner := framing.NewScanner(decl.Config.Framing)
	scanner.Push([]byte("M\x00\x1C"+particles), time.Unix(1, 0)) // the first frame was cut
	f, ok := scanner.Next()
	require.True(t, ok)
	for i, want := range []int64{5, 8, 9} {
		v, q := decl.Fields[i].Answer(&serial.Message{Data: f.Data, At: f.At})
		require.True(t, q.IsGood())
		require.Equal(t, twin.IntValue(want), v)
	}
}
