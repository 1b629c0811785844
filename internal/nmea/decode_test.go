package nmea_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/nmea"
	"github.com/twinline/twinline/internal/telegram"
	"github.com/twinline/twinline/pkg/twin"
)

// sentence adds the checksum.
func sentence(body string) string {
	sum := byte(0)
	for _, c := range []byte(body[1:]) {
		sum ^= c
	}
	return fmt.Sprintf("%s*%02X", body, sum)
}

// show writes fields as "name=text unit", "name!why" where they are bad.
func show(fields []telegram.Field) string {
	var b strings.Builder
	for _, f := range fields {
		switch {
		case f.Quality.IsBad():
			b.WriteString(f.Name + "!" + f.Quality.Why())
		case f.Unit != "":
			b.WriteString(f.Name + "=" + f.Text + " " + f.Unit)
		default:
			b.WriteString(f.Name + "=" + f.Text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func lines(s ...string) string { return strings.Join(s, "\n") + "\n" }

// TestPublished has sentences as they are published: in "NMEA Revealed" of gpsd
// (https://gpsd.gitlab.io/gpsd/NMEA.html), "AIVDM/AIVDO protocol decoding" of the same, D. DePriest's "NMEA data"
// (gpsinformation.org/dale/nmea.htm) and u-blox M8's protocol specification (PUBX).
func TestPublished(t *testing.T) {
	for _, test := range []struct {
		line, kind, sender string
		at                 time.Time
		want               string
	}{
		{
			"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A", "RMC", "GP", time.Date(1994, 3, 23, 12, 35, 19, 0, time.UTC),
			lines("RMC.time=12:35:19", "RMC.validity=A", "RMC.latitude=48.1173 deg", "RMC.longitude=11.51666667 deg", "RMC.speed=22.4 kn",
				"RMC.course=84.4 deg", "RMC.date=1994-03-23", "RMC.variation=-3.1 deg", "RMC.faaMode!empty", "RMC.navStatus!empty"),
		},
		{
			"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47", "GGA", "GP",
			time.Time{},
			lines("GGA.time=12:35:19", "GGA.latitude=48.1173 deg", "GGA.longitude=11.51666667 deg", "GGA.fixQuality=1", "GGA.numSatellites=8",
				"GGA.hdop=0.9", "GGA.altitude=545.4 m", "GGA.separation=46.9 m", "GGA.dgpsAge!empty", "GGA.dgpsId!empty"),
		},
		{
			"$GNGLL,4404.14012,N,12118.85993,W,001037.00,A,A*67", "GLL", "GN",
			time.Time{},
			lines("GLL.latitude=44.069002 deg", "GLL.longitude=-121.31433217 deg", "GLL.time=00:10:37.00", "GLL.validity=A", "GLL.faaMode=A"),
		},
		{
			"$GNGNS,014035.00,4332.69262,S,17235.48549,E,RR,13,0.9,25.63,11.24,,*70", "GNS", "GN",
			time.Time{},
			lines("GNS.time=01:40:35.00", "GNS.latitude=-43.544877 deg", "GNS.longitude=172.59142483 deg", "GNS.mode.0=R", "GNS.mode.1=R",
				"GNS.svs=13", "GNS.hdop=0.9", "GNS.altitude=25.63 m", "GNS.separation=11.24 m", "GNS.age!empty", "GNS.station!empty", "GNS.navStatus!empty"),
		},
		{
			"$GPVTG,220.86,T,,M,2.550,N,4.724,K,A*34", "VTG", "GP",
			time.Time{},
			lines("VTG.trueTrack=220.86 deg", "VTG.magneticTrack!empty", "VTG.groundSpeedKnots=2.550 kn", "VTG.groundSpeedKPH=4.724 km/h", "VTG.faaMode=A"),
		},
		{
			"$GPZDA,160012.71,11,03,2004,-1,00*7D", "ZDA", "GP", time.Date(2004, 3, 11, 16, 0, 12, 710_000_000, time.UTC),
			lines("ZDA.time=16:00:12.71", "ZDA.day=11", "ZDA.month=3", "ZDA.year=2004", "ZDA.offsetHours=-1 h", "ZDA.offsetMinutes=0 min"),
		},
		{
			"$GPGSV,3,1,11,03,03,111,00,04,15,270,00,06,01,010,00,13,06,292,00*74", "GSV", "GP",
			time.Time{},
			lines("GSV.totalMessages=3", "GSV.messageNumber=1", "GSV.numberSVsInView=11",
				"GSV.info.0.svprnNumber=3", "GSV.info.0.elevation=3 deg", "GSV.info.0.azimuth=111 deg", "GSV.info.0.snr=0 dB",
				"GSV.info.1.svprnNumber=4", "GSV.info.1.elevation=15 deg", "GSV.info.1.azimuth=270 deg", "GSV.info.1.snr=0 dB",
				"GSV.info.2.svprnNumber=6", "GSV.info.2.elevation=1 deg", "GSV.info.2.azimuth=10 deg", "GSV.info.2.snr=0 dB",
				"GSV.info.3.svprnNumber=13", "GSV.info.3.elevation=6 deg", "GSV.info.3.azimuth=292 deg", "GSV.info.3.snr=0 dB",
				"GSV.signalID!empty"),
		},
		{
			"$GNGSA,A,3,80,71,73,79,69,,,,,,,,1.83,1.09,1.47*17", "GSA", "GN",
			time.Time{},
			lines("GSA.mode=A", "GSA.fixType=3", "GSA.sv.0=80", "GSA.sv.1=71", "GSA.sv.2=73", "GSA.sv.3=79", "GSA.sv.4=69",
				"GSA.pdop=1.83", "GSA.hdop=1.09", "GSA.vdop=1.47", "GSA.systemID!empty"),
		},
		{
			"$WIMWV,214.8,R,0.1,K,A*28", "MWV", "WI",
			time.Time{},
			lines("MWV.windAngle=214.8 deg", "MWV.reference=R", "MWV.windSpeed=0.1 km/h", "MWV.windSpeedUnit=K", "MWV.statusValid=true"),
		},
		{
			"$PGRME,3.3,M,4.9,M,6.0,M*25", "PGRME", "P",
			time.Time{},
			lines("PGRME.horizontal=3.3 m", "PGRME.vertical=4.9 m", "PGRME.spherical=6.0 m"),
		},
		{
			"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C", "VDM", "AI",
			time.Time{},
			lines("VDM.numFragments=1", "VDM.fragmentNumber=1", "VDM.messageID!empty", "VDM.channel=B", "VDM.payload=177KQJ5000G?tO`K>RA1wUbN0TKH"),
		},
		{
			"$PUBX,00,081350.00,4717.113210,N,00833.915187,E,546.589,G3,2.1,2.0,0.007,77.52,0.007,,0.92,1.19,0.77,9,0,0*5F", "PUBX", "P",
			time.Time{},
			lines("PUBX.1=00", "PUBX.2=081350.00", "PUBX.3=4717.113210", "PUBX.4=N", "PUBX.5=00833.915187", "PUBX.6=E", "PUBX.7=546.589",
				"PUBX.8=G3", "PUBX.9=2.1", "PUBX.10=2.0", "PUBX.11=0.007", "PUBX.12=77.52", "PUBX.13=0.007", "PUBX.14!empty",
				"PUBX.15=0.92", "PUBX.16=1.19", "PUBX.17=0.77", "PUBX.18=9", "PUBX.19=0", "PUBX.20=0"),
		},
	} {
		t.Run(test.line[:6], func(t *testing.T) {
			got, err := nmea.New().Decode([]byte(test.line))
			require.NoError(t, err)
			require.Equal(t, test.kind, got.Kind)
			require.Equal(t, test.sender, got.Sender)
			require.Equal(t, test.at, got.Time)
			require.Equal(t, test.want, show(got.Fields))
		})
	}
}

func TestNoFix(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		bad  string // the fields that are bad, but not empty
		good string
	}{
		"RMC void":                  {"$GPRMC,123519.00,V,4807.038,N,01131.000,E,022.4,084.4,230394,,,N", "latitude longitude speed course", "time date validity faaMode"},
		"RMC by its mode":           {"$GPRMC,123519.00,A,4807.038,N,01131.000,E,022.4,084.4,230394,,,N", "latitude longitude speed course", "time"},
		"RMC without a status":      {"$GPRMC,123519.00,,4807.038,N,01131.000,E,022.4,084.4,230394,,,A", "latitude longitude speed course", "time"},
		"RMC estimated":             {"$GPRMC,123519.00,A,4807.038,N,01131.000,E,022.4,084.4,230394,,,E", "", "latitude longitude speed course faaMode"},
		"RMC simulated":             {"$GPRMC,123519.00,A,4807.038,N,01131.000,E,022.4,084.4,230394,,,S", "", "latitude longitude speed course faaMode"},
		"RMC with nothing":          {"$GPRMC,,V,,,,,,,,,,N", "", "validity faaMode"},
		"GLL void":                  {"$GPGLL,4807.038,N,01131.000,E,123519,V", "latitude longitude", "time"},
		"GGA without a fix":         {"$GPGGA,123519,4807.038,N,01131.000,E,0,00,99.9,545.4,M,46.9,M,,", "latitude longitude altitude separation", "time fixQuality numSatellites hdop"},
		"GGA without a quality":     {"$GPGGA,123519,4807.038,N,01131.000,E,,00,99.9,545.4,M,46.9,M,,", "latitude longitude altitude separation", "time"},
		"GGA by hand":               {"$GPGGA,123519,4807.038,N,01131.000,E,7,08,0.9,545.4,M,46.9,M,,", "", "latitude longitude altitude separation fixQuality"},
		"GGA simulated":             {"$GPGGA,123519,4807.038,N,01131.000,E,8,08,0.9,545.4,M,46.9,M,,", "", "latitude longitude altitude separation fixQuality"},
		"GNS of no system":          {"$GNGNS,014035.00,4332.69262,S,17235.48549,E,NN,00,99.9,25.63,11.24,,", "latitude longitude altitude separation", "time svs"},
		"GNS of one of two":         {"$GNGNS,014035.00,4332.69262,S,17235.48549,E,NA,05,0.9,25.63,11.24,,", "", "latitude longitude altitude separation"},
		"GNS without a mode":        {"$GNGNS,014035.00,4332.69262,S,17235.48549,E,,05,0.9,25.63,11.24,,", "latitude longitude altitude separation", "svs"},
		"VTG":                       {"$GPVTG,220.86,T,1.0,M,2.550,N,4.724,K,N", "trueTrack magneticTrack groundSpeedKnots groundSpeedKPH", "faaMode"},
		"VTG before modes":          {"$GPVTG,220.86,T,1.0,M,2.550,N,4.724,K", "", "trueTrack magneticTrack groundSpeedKnots groundSpeedKPH"},
		"wind that is not valid":    {"$WIMWV,214.8,R,0.1,K,V", "windAngle windSpeed", "reference statusValid"},
		"turn that is not valid":    {"$TIROT,0.0,V", "rateOfTurn", "valid"},
		"heading that is not valid": {"$GPTHS,77.52,V", "heading", "status"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nmea.New().Decode([]byte(sentence(test.body)))
			require.NoError(t, err)
			var bad []string
			for _, f := range got.Fields {
				if f.Quality.IsBad() && f.Quality != twin.Bad("empty") {
					require.Contains(t, []twin.Quality{twin.Bad("no-fix"), twin.Bad("invalid")}, f.Quality)
					require.Empty(t, f.Text)
					bad = append(bad, strings.TrimPrefix(f.Name, got.Kind+"."))
				}
			}
			require.Equal(t, test.bad, strings.Join(bad, " "))
			for _, name := range strings.Fields(test.good) {
				f, ok := got.Field(got.Kind + "." + name)
				require.True(t, ok, name)
				require.NotEmpty(t, f.Text, name)
				require.True(t, f.Quality.IsGood(), name)
			}
		})
	}
	got, err := nmea.New().Decode([]byte(sentence("$GPGGA,123519,4807.038,N,01131.000,E,8,08,0.9,545.4,M,46.9,M,,")))
	require.NoError(t, err)
	f, _ := got.Field("GGA.fixQuality")
	require.Equal(t, "8", f.Text)
}

// TestFields has single fields of sentences.
func TestFields(t *testing.T) {
	rmc := func(lat, ns, lon, ew, speed string) string {
		return "$GPRMC,123519,A," + lat + "," + ns + "," + lon + "," + ew + "," + speed + ",084.4,230394,,"
	}
	for name, test := range map[string]struct{ body, field, want string }{
		"digits behind the point":    {rmc("4807.038", "N", "01131.000", "E", "12.50"), "RMC.speed", "12.50"},
		"leading zeros":              {rmc("4807.038", "N", "01131.000", "E", "000.0"), "RMC.speed", "0.0"},
		"no digit before the point":  {rmc("4807.038", "N", "01131.000", "E", ".5"), "RMC.speed", "0.5"},
		"no digit behind the point":  {rmc("4807.038", "N", "01131.000", "E", "5."), "RMC.speed", "5"},
		"plus":                       {rmc("4807.038", "N", "01131.000", "E", "+5.10"), "RMC.speed", "5.10"},
		"minus":                      {rmc("4807.038", "N", "01131.000", "E", "-05.10"), "RMC.speed", "-5.10"},
		"minus nothing":              {rmc("4807.038", "N", "01131.000", "E", "-0.0"), "RMC.speed", "0.0"},
		"exponent":                   {rmc("4807.038", "N", "01131.000", "E", "25e-1"), "RMC.speed", "2.5"},
		"not a number":               {rmc("4807.038", "N", "01131.000", "E", "NaN"), "RMC.speed", ""},
		"south":                      {rmc("0000.000", "S", "00000.600", "W", "1"), "RMC.longitude", "-0.01"},
		"the equator has no sign":    {rmc("0000.000", "S", "00000.600", "W", "1"), "RMC.latitude", "0"},
		"rounded up":                 {rmc("0000.0000003", "N", "00000.600", "W", "1"), "RMC.latitude", "0.00000001"},
		"rounded down":               {rmc("0000.0000002", "N", "00000.600", "W", "1"), "RMC.latitude", "0"},
		"carried":                    {rmc("4759.9999999", "N", "00000.600", "W", "1"), "RMC.latitude", "48"},
		"more digits than are shown": {rmc("4807.03812345678901", "N", "00000.600", "W", "1"), "RMC.latitude", "48.11730206"},
		"the pole":                   {rmc("9000.000", "S", "18000.000", "W", "1"), "RMC.latitude", "-90"},
		"the date line":              {rmc("9000.000", "S", "18000.000", "W", "1"), "RMC.longitude", "-180"},
		"no position":                {rmc("", "", "", "", "1"), "RMC.latitude", ""},
		"variation to the east":      {"$GPRMC,123519,A,,,,,,,230394,003.10,E", "RMC.variation", "3.10"},
		"variation to the west":      {"$GPRMC,123519,A,,,,,,,230394,003.10,W", "RMC.variation", "-3.10"},
		"no position, variation 0":   {"$GPRMC,123519,A,,,,,,,230394,000.0,W", "RMC.longitude", ""},
		"time with digits":           {"$GPRMC,123519.0004,A,,,,,,,230394,,", "RMC.time", "12:35:19.0004"},
		"time that is none":          {"$GPRMC,253519,A,,,,,,,230394,,", "RMC.time", ""},
		"date that is none":          {"$GPRMC,123519,A,,,,,,,300294,,", "RMC.date", ""},
		"first year of GPS":          {"$GPRMC,123519,A,,,,,,,060180,,", "RMC.date", "1980-01-06"},
		"last year of two digits":    {"$GPRMC,123519,A,,,,,,,311279,,", "RMC.date", "2079-12-31"},
		"a satellite not tracked":    {"$GPGSV,1,1,01,03,03,111,", "GSV.info.0.snr", ""},
		"signal, hexadecimal":        {"$GPGSV,1,1,01,03,03,111,40,B", "GSV.signalID", "11"},
		"signal left empty":          {"$GPGSV,1,1,01,03,03,111,40,", "GSV.signalID", ""},
		"system, hexadecimal":        {"$GNGSA,A,3,80,,,,,,,,,,,,1.8,1.0,1.4,A", "GSA.systemID", "10"},
		"system left empty":          {"$GNGSA,A,3,80,,,,,,,,,,,,1.8,1.0,1.4,", "GSA.systemID", ""},
		"a number of later editions": {"$SDDPT,0.5,0.5", "DPT.rangeScale", ""},
		"the same, there":            {"$SDDPT,0.5,0.5,0.0", "DPT.rangeScale", "0.0"},
		"a number with a flag":       {"$AIVSD,036,00.0,0000,@@@@@@@@@@@@@@@@@@@@,000000,00,00,00,00", "VSD.staticDraughtMeters", "0.0"},
		"a number with a flag, none": {"$AIVSD,036,,0000,@@@@@@@@@@@@@@@@@@@@,000000,00,00,00,00", "VSD.staticDraughtMeters", ""},
		"fragments, hexadecimal":     {"!RATTD,1A,01,1,177KQJ5000G?tO`K>RA1wUbN0TKH,0", "TTD.numFragments", "26"},
		"no fragments said":          {"!RATTD,,01,1,177KQJ5000G?tO`K>RA1wUbN0TKH,0", "TTD.numFragments", ""},
		"a query":                    {"$CCGPQ,GGA", "Q.requestedSentence", "GGA"},
		"a text with commas":         {"$GPTXT,01,01,02,a,b", "TXT.message", "a,b"},
		"bytes":                      {"$PCDIN,01F119,00000000,0F,2AAF00D1067414FF", "PCDIN.data", "2AAF00D1067414FF"},
		"an unsigned number":         {"$PCDIN,01F119,00000000,0F,2AAF00D1067414FF", "PCDIN.source", "15"},
		"an address that is odd":     {"$ABCDEFG,1", "ABCDEFG.1", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nmea.New().Decode([]byte(sentence(test.body)))
			require.NoError(t, err)
			f, ok := got.Field(test.field)
			require.True(t, ok)
			require.Equal(t, test.want, f.Text)
			if test.want == "" {
				require.Equal(t, twin.Bad("empty"), f.Quality)
			}
		})
	}
}

// TestPlaces has every sentence with a latitude and a longitude, as their makers' examples are.
func TestPlaces(t *testing.T) {
	for _, test := range []struct{ body, prefix, latitude, longitude string }{
		{"$GPBEC,220516,5130.02,N,00046.34,W,213.8,T,218.0,M,0004.6,N,EGLM", "BEC.l", "51.50033333", "-0.77233333"},
		{"$GPBWC,220516,5130.02,N,00046.34,W,213.8,T,218.0,M,0004.6,N,EGLM", "BWC.l", "51.50033333", "-0.77233333"},
		{"$GPBWR,220516,5130.02,N,00046.34,W,213.8,T,218.0,M,0004.6,N,EGLM", "BWR.l", "51.50033333", "-0.77233333"},
		{"$GPGGA,015540.000,3150.68378,N,11711.93139,E,1,17,0.6,0051.6,M,0.0,M,,", "GGA.l", "31.84472967", "117.1988565"},
		{"$GPGLL,3926.7952,N,12000.5947,W,022732,A,A", "GLL.l", "39.44658667", "-120.00991167"},
		{"$GNGNS,014035.00,4332.69262,S,17235.48549,E,RR,13,0.9,25.63,11.24,,", "GNS.l", "-43.544877", "172.59142483"},
		{"$PKLDS,220516,A,5133.82,N,00042.24,W,173.8,231.8,130694,004.2,W00,100,2000,15,00,", "PKLDS.l", "51.56366667", "-0.704"},
		{"$PKLSH,3926.7952,N,12000.5947,W,022732,A,100,2000", "PKLSH.l", "39.44658667", "-120.00991167"},
		{"$PKNDS,220516,A,5133.82,N,00042.24,W,173.8,231.8,130694,004.2,W00,U00001,207,00,", "PKNDS.l", "51.56366667", "-0.704"},
		{"$PKNSH,3926.7952,N,12000.5947,W,022732,A,U00001", "PKNSH.l", "39.44658667", "-120.00991167"},
		{"$PKWDWPL,150803,A,4237.14,N,07120.83,W,173.8,231.8,190316,1120,test,/'", "PKWDWPL.l", "42.619", "-71.34716667"},
		{"$GPRMB,A,0.66,L,003,004,4917.24,N,12309.57,W,001.3,052.5,000.5,V", "RMB.destinationL", "49.28733333", "-123.1595"},
		{"$GPRMC,220516,A,5133.82,N,00042.24,W,173.8,231.8,130694,004.2,W", "RMC.l", "51.56366667", "-0.704"},
		{"$RATLL,,3647.422,N,01432.592,E,,,,", "TLL.targetL", "36.79036667", "14.5432"},
		{"$IIWPL,5503.4530,N,01037.2742,E,411", "WPL.l", "55.05755", "10.62123667"},
	} {
		t.Run(test.prefix, func(t *testing.T) {
			got, err := nmea.New().Decode([]byte(sentence(test.body)))
			require.NoError(t, err)
			latitude, _ := got.Field(test.prefix + "atitude")
			longitude, _ := got.Field(test.prefix + "ongitude")
			require.Equal(t, telegram.Field{Name: test.prefix + "atitude", Text: test.latitude, Unit: "deg"}, latitude)
			require.Equal(t, telegram.Field{Name: test.prefix + "ongitude", Text: test.longitude, Unit: "deg"}, longitude)
		})
	}
}

func TestUnitsOfTransducers(t *testing.T) {
	got, err := nmea.New().Decode([]byte(sentence("$IIXDR,P,1.02481,B,Barometer,C,19.50,C,TempAir,G,7,,x,C,1,P,odd")))
	require.NoError(t, err)
	require.Equal(t, lines(
		"XDR.measurements.0.transducerType=P", "XDR.measurements.0.value=1.02481 bar", "XDR.measurements.0.unit=B", "XDR.measurements.0.transducerName=Barometer",
		"XDR.measurements.1.transducerType=C", "XDR.measurements.1.value=19.50 °C", "XDR.measurements.1.unit=C", "XDR.measurements.1.transducerName=TempAir",
		"XDR.measurements.2.transducerType=G", "XDR.measurements.2.value=7", "XDR.measurements.2.unit!empty", "XDR.measurements.2.transducerName=x",
		"XDR.measurements.3.transducerType=C", "XDR.measurements.3.value=1", "XDR.measurements.3.unit=P", "XDR.measurements.3.transducerName=odd",
	), show(got.Fields))
}

func TestTimes(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want time.Time
	}{
		"RMC":                     {"$GPRMC,123519.25,A,,,,,,,230326,,", time.Date(2026, 3, 23, 12, 35, 19, 250_000_000, time.UTC)},
		"RMC, leap second":        {"$GPRMC,235960,A,,,,,,,311216,,", time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)},
		"RMC, void":               {"$GPRMC,123519,V,,,,,,,230326,,", time.Time{}},
		"RMC, no such time":       {"$GPRMC,240000,A,,,,,,,230326,,", time.Time{}},
		"RMC, no such day":        {"$GPRMC,120000,A,,,,,,,290225,,", time.Time{}},
		"RMC, no date":            {"$GPRMC,120000,A,,,,,,,,,", time.Time{}},
		"RMC, no time":            {"$GPRMC,,A,,,,,,,230326,,", time.Time{}},
		"ZDA":                     {"$GPZDA,160012.71,11,03,2004,-1,00", time.Date(2004, 3, 11, 16, 0, 12, 710_000_000, time.UTC)},
		"ZDA, empty":              {"$GPZDA,,,,,,", time.Time{}},
		"ZDA, a year of 2 digits": {"$GPZDA,160012,11,03,04,,", time.Time{}},
		"a time of day only":      {"$GPGLL,4807.038,N,01131.000,E,123519,A", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nmea.New().Decode([]byte(sentence(test.body)))
			require.NoError(t, err)
			require.Equal(t, test.want, got.Time)
		})
	}
}

func TestRefused(t *testing.T) {
	const good = "$GPGLL,4807.038,N,01131.000,E,123519,A*25"
	_, err := nmea.New().Decode([]byte(good))
	require.NoError(t, err)
	long := func(n int) string { return sentence("$GPXYZ," + strings.Repeat(",", n-len("$GPXYZ,*hh"))) }
	require.Len(t, long(nmea.MaxLine), nmea.MaxLine)
	for name, test := range map[string]struct {
		line string
		want error
	}{
		"empty":                 {"", nmea.ErrFormat},
		"no sentence":           {"hello", nmea.ErrFormat},
		"with its end":          {good + "\r\n", nmea.ErrFormat},
		"something before":      {" " + good, nmea.ErrFormat},
		"no checksum":           {"$GPGLL,4807.038,N,01131.000,E,123519,A", nmea.ErrFormat},
		"half a checksum":       {good[:len(good)-1], nmea.ErrFormat},
		"checksum not hex":      {good[:len(good)-2] + "2G", nmea.ErrFormat},
		"wrong checksum":        {good[:len(good)-2] + "26", nmea.ErrChecksum},
		"two in one":            {sentence(good + good), nmea.ErrFormat},
		"tag block":             {`\s:r003669945*6B\` + good, nmea.ErrFormat},
		"tag block inside":      {sentence(`$X\s:r003669945*6B\` + good), nmea.ErrFormat},
		"a control character":   {sentence("$GPTXT,01,01,02,\x07"), nmea.ErrFormat},
		"no ASCII":              {sentence("$GPTXT,01,01,02,é"), nmea.ErrFormat},
		"no address":            {sentence("$,1"), nmea.ErrFormat},
		"address in small":      {sentence("$gpgll,1"), nmea.ErrFormat},
		"address too long":      {sentence("$" + strings.Repeat("A", 17)), nmea.ErrFormat},
		"too long":              {long(nmea.MaxLine + 1), nmea.ErrFormat},
		"too few fields":        {sentence("$GPRMC,123519"), nmea.ErrFormat},
		"too few for a text":    {sentence("$GPTXT,01"), nmea.ErrFormat},
		"a value of no meaning": {sentence("$GPGLL,4807.038,N,01131.000,E,123519,X"), nmea.ErrFormat},
		"north of the pole":     {sentence("$GPGLL,9107.038,N,01131.000,E,123519,A"), nmea.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nmea.New().Decode([]byte(test.line))
			require.ErrorIs(t, err, test.want)
			require.Empty(t, got)
		})
	}
	d := nmea.New()
	got, err := d.Decode([]byte(long(nmea.MaxLine)))
	require.NoError(t, err)
	require.LessOrEqual(t, len(got.Fields), telegram.MaxFields)
	_, err = d.Decode([]byte(sentence("$" + strings.Repeat("A", 16))))
	require.NoError(t, err)
	_, err = d.Decode([]byte(strings.ToLower(good[len(good)-2:])))
	require.Error(t, err)
}

// TestConcurrent decodes with one Decoder from many goroutines; the race detector watches.
func TestConcurrent(t *testing.T) {
	d := nmea.New()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				for _, line := range []string{
					"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A",
					"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C", "$PGRME,3.3,M,4.9,M,6.0,M*25",
				} {
					if _, err := d.Decode([]byte(line)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
}

// narrow checks that a Decoder of few fields says of them what one of all does.
func narrow(t *testing.T, line []byte, all telegram.Telegram, names ...string) {
	got, err := nmea.Only(names...).Decode(line)
	require.NoError(t, err)
	for _, name := range names {
		want, ok := all.Field(name)
		have, found := got.Field(name)
		require.Equal(t, ok, found, name)
		require.Equal(t, want, have)
	}
	if len(got.Fields) == 0 {
		require.Equal(t, telegram.Telegram{Kind: all.Kind, Sender: all.Sender}, got)
		return
	}
	all.Fields, got.Fields = nil, nil
	require.Equal(t, all, got, "%q of %v", line, names)
}

func TestOnly(t *testing.T) {
	all := nmea.New()
	for _, body := range []string{
		"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W", "$GPRMC,123519,V,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W",
		"$GPGGA,123519,4807.038,N,01131.000,E,0,08,0.9,545.4,M,46.9,M,,", "$GNGNS,014035.00,4332.69262,S,17235.48549,E,NN,13,0.9,25.63,11.24,,",
		"$GPGSV,2,1,08,01,40,083,46,02,17,308,41", "$WIMWV,214.8,R,0.1,K,A", "$IIXDR,P,1.02481,B,Barometer,C,19.50,C,TempAir", "$PUBX,00,1,2", "$PGRME,3.3,M,4.9,M,6.0,M",
	} {
		line := []byte(sentence(body))
		want, err := all.Decode(line)
		require.NoError(t, err)
		require.NotEmpty(t, want.Fields)
		for _, f := range want.Fields {
			narrow(t, line, want, f.Name)
			narrow(t, line, want, f.Name, "ZZZ.other", want.Fields[0].Name)
		}
		narrow(t, line, want, "ZZZ.other")
		narrow(t, line, want)
	}
	narrow(t, []byte(sentence("$GPTXT,01")), telegram.Telegram{Kind: "TXT", Sender: "GP"}, "RMC.speed") // the library cannot read it
	_, err := nmea.Only("RMC.speed").Decode([]byte("$GPGGA,123519*00"))
	require.ErrorIs(t, err, nmea.ErrChecksum)
}

func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W", "$GPTXT,01", "$GPGSV,1,1,01,03,03,111,40,B",
		"$GPGGA,123519,4807.038,N,01131.000,E,8,08,0.9,545.4,M,46.9,M,,", "$IIXDR,P,1.02481,B,Barometer", "$CCGPQ,GGA", "$PUBX,00",
		"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0", "$MXPGN,01F112,2807,FC7FFF7FFF168012", "$GPRTE,2,1,c,0,A,B", "$AIVSD,036,,0000,x,1,00,00,00,00",
	} {
		f.Add(body)
	}
	d := nmea.New()
	f.Fuzz(func(t *testing.T, body string) {
		for _, line := range []string{body, sentence("$" + body), sentence("!" + body), sentence("$" + strings.TrimLeft(body, "$!"))} {
			got, err := d.Decode([]byte(line))
			if err != nil {
				require.True(t, errors.Is(err, nmea.ErrChecksum) || errors.Is(err, nmea.ErrFormat))
				require.Empty(t, got)
				continue
			}
			require.LessOrEqual(t, len(got.Fields), telegram.MaxFields)
			require.NotEmpty(t, got.Kind)
			names := map[string]bool{}
			for _, field := range got.Fields {
				require.True(t, strings.HasPrefix(field.Name, got.Kind+"."), field.Name)
				require.False(t, names[field.Name], field.Name)
				names[field.Name] = true
				require.True(t, field.Quality.Valid())
				require.Equal(t, field.Quality.IsBad(), field.Text == "")
			}
			if len(got.Fields) > 0 {
				narrow(t, []byte(line), got, got.Fields[len(body)%len(got.Fields)].Name)
			}
		}
	})
}
