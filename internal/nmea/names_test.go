package nmea_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	library "github.com/adrianmo/go-nmea"
	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/nmea"
)

var update = flag.Bool("update", false, "write testdata/names.golden")

// kinds are go-nmea's types of sentences.
func kinds() []struct {
	kind string
	of   library.Sentence
} {
	return []struct {
		kind string
		of   library.Sentence
	}{
		{"AAM", library.AAM{}},
		{"ABM", library.ABM{}},
		{"ACK", library.ACK{}},
		{"ACN", library.ACN{}},
		{"ALA", library.ALA{}},
		{"ALC", library.ALC{}},
		{"ALF", library.ALF{}},
		{"ALR", library.ALR{}},
		{"APB", library.APB{}},
		{"ARC", library.ARC{}},
		{"BBM", library.BBM{}},
		{"BEC", library.BEC{}},
		{"BOD", library.BOD{}},
		{"BWC", library.BWC{}},
		{"BWR", library.BWR{}},
		{"BWW", library.BWW{}},
		{"DBK", library.DBK{}},
		{"DBS", library.DBS{}},
		{"DBT", library.DBT{}},
		{"DOR", library.DOR{}},
		{"DPT", library.DPT{}},
		{"DSC", library.DSC{}},
		{"DSE", library.DSE{}},
		{"DTM", library.DTM{}},
		{"EVE", library.EVE{}},
		{"FIR", library.FIR{}},
		{"GGA", library.GGA{}},
		{"GLL", library.GLL{}},
		{"GNS", library.GNS{}},
		{"GSA", library.GSA{}},
		{"GSV", library.GSV{}},
		{"HBT", library.HBT{}},
		{"HDG", library.HDG{}},
		{"HDM", library.HDM{}},
		{"HDT", library.HDT{}},
		{"HSC", library.HSC{}},
		{"MDA", library.MDA{}},
		{"MTA", library.MTA{}},
		{"MTW", library.MTW{}},
		{"MWD", library.MWD{}},
		{"MWV", library.MWV{}},
		{"OSD", library.OSD{}},
		{"PASHR", library.PASHR{}},
		{"PCDIN", library.PCDIN{}},
		{"PGN", library.PGN{}},
		{"PGRME", library.PGRME{}},
		{"PGRMT", library.PGRMT{}},
		{"PHTRO", library.PHTRO{}},
		{"PKLDS", library.PKLDS{}},
		{"PKLID", library.PKLID{}},
		{"PKLSH", library.PKLSH{}},
		{"PKNDS", library.PKNDS{}},
		{"PKNID", library.PKNID{}},
		{"PKNSH", library.PKNSH{}},
		{"PKWDWPL", library.PKWDWPL{}},
		{"PMTK001", library.PMTK001{}},
		{"PRDID", library.PRDID{}},
		{"PSKPDPT", library.PSKPDPT{}},
		{"PSONCMS", library.PSONCMS{}},
		{"Q", library.Query{}},
		{"RMB", library.RMB{}},
		{"RMC", library.RMC{}},
		{"ROT", library.ROT{}},
		{"RPM", library.RPM{}},
		{"RSA", library.RSA{}},
		{"RSD", library.RSD{}},
		{"RTE", library.RTE{}},
		{"THS", library.THS{}},
		{"TLB", library.TLB{}},
		{"TLL", library.TLL{}},
		{"TTD", library.TTD{}},
		{"TTM", library.TTM{}},
		{"TXT", library.TXT{}},
		{"VBW", library.VBW{}},
		{"VDM", library.VDMVDO{}},
		{"VDO", library.VDMVDO{}},
		{"VDR", library.VDR{}},
		{"VHW", library.VHW{}},
		{"VLW", library.VLW{}},
		{"VPW", library.VPW{}},
		{"VSD", library.VSD{}},
		{"VTG", library.VTG{}},
		{"VWR", library.VWR{}},
		{"VWT", library.VWT{}},
		{"WPL", library.WPL{}},
		{"XDR", library.XDR{}},
		{"XTE", library.XTE{}},
		{"ZDA", library.ZDA{}},
	}
}

// TestNames holds the names that people write in Devices against what go-nmea
// calls its fields today. A name that is there must never change.
func TestNames(t *testing.T) {
	var names []string
	for _, k := range kinds() {
		names = append(names, nmea.Names(k.kind, k.of)...)
	}
	got := strings.Join(names, "\n") + "\n"
	const golden = "testdata/names.golden"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)

	seen := map[string]bool{}
	for _, name := range names {
		name, _, _ = strings.Cut(name, " ")
		require.False(t, seen[name], name)
		seen[name] = true
	}
	for _, name := range nmea.Known() {
		name = strings.ReplaceAll(name, "*", "N")
		require.True(t, seen[name] || seen[name+".N"], "a table speaks of %s, which is no field", name)
	}
}
