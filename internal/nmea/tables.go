package nmea

import "strings"

// tables is what go-nmea's structures do not say of their fields.
type tables struct {
	units  map[string]string
	places map[string]int
	left   map[string]bool
	said   []saidUnit
}

func newTables() tables {
	t := tables{units: map[string]string{}, places: places(), left: leftOut(), said: saidUnits()}
	for unit, names := range units() {
		for _, name := range strings.Fields(names) {
			t.units[name] = unit
		}
	}
	return t
}

// leftOut returns the fields that say again what another does.
func leftOut() map[string]bool {
	return map[string]bool{"GSV.systemID": true, "GSV.info.*.talkerID": true, "GSV.info.*.signalID": true}
}

// places returns where in the sentence, from 0, a field is of which go-nmea's
// value does not tell whether it is there, or has lost its digits: latitudes and longitudes (the
// hemisphere follows), hexadecimal numbers, numbers at the end that older sentences lack, payloads.
func places() map[string]int {
	return map[string]int{
		"BEC.latitude": 1, "BEC.longitude": 3,
		"BWC.latitude": 1, "BWC.longitude": 3,
		"BWR.latitude": 1, "BWR.longitude": 3,
		"GGA.latitude": 1, "GGA.longitude": 3,
		"GLL.latitude": 0, "GLL.longitude": 2,
		"GNS.latitude": 1, "GNS.longitude": 3,
		"PKLDS.latitude": 2, "PKLDS.longitude": 4,
		"PKLSH.latitude": 0, "PKLSH.longitude": 2,
		"PKNDS.latitude": 2, "PKNDS.longitude": 4,
		"PKNSH.latitude": 0, "PKNSH.longitude": 2,
		"PKWDWPL.latitude": 2, "PKWDWPL.longitude": 4,
		"RMB.destinationLatitude": 5, "RMB.destinationLongitude": 7,
		"RMC.latitude": 2, "RMC.longitude": 4,
		"TLL.targetLatitude": 1, "TLL.targetLongitude": 3,
		"WPL.latitude": 0, "WPL.longitude": 2,

		"GSA.systemID": 17, "GSV.signalID": placeLast, "TTD.numFragments": 0, "TTD.fragmentNumber": 1,
		"DPT.rangeScale":                   2,
		"VBW.sternTraverseWaterSpeedKnots": 6, "VBW.sternTraverseGroundSpeedKnots": 8,
		"VLW.totalOnGround": 4, "VLW.sinceResetOnGround": 6,

		"ABM.payload": 6, "BBM.payload": 5, "TTD.payload": 3, "VDM.payload": 4, "VDO.payload": 4,
		"PCDIN.data": 3, "PGN.data": 2,
	}
}

// placeLast is the place of the signal in GSV: after the satellites, of which
// each has four fields.
const placeLast = 1000

// units returns the names of the fields that have a unit.
func units() map[string]string {
	return map[string]string{
		"deg": `APB.bearingOriginToDest APB.bearingPresentToDest APB.heading
			BEC.latitude BEC.longitude BEC.bearingTrue BEC.bearingMagnetic BOD.bearingTrue BOD.bearingMagnetic
			BWC.latitude BWC.longitude BWC.bearingTrue BWC.bearingMagnetic
			BWR.latitude BWR.longitude BWR.bearingTrue BWR.bearingMagnetic BWW.bearingTrue BWW.bearingMagnetic
			GGA.latitude GGA.longitude GLL.latitude GLL.longitude GNS.latitude GNS.longitude
			GSV.info.*.elevation GSV.info.*.azimuth HDG.heading HDG.deviation HDG.variation HDM.heading HDT.heading
			HSC.trueHeading HSC.magneticHeading MDA.windDirectionTrue MDA.windDirectionMagnetic
			MWD.windDirectionTrue MWD.windDirectionMagnetic MWV.windAngle OSD.heading OSD.vesselTrueCourse OSD.vesselSetTrue
			PASHR.heading PASHR.roll PASHR.pitch PASHR.rollAccuracy PASHR.pitchAccuracy PASHR.headingAccuracy
			PHTRO.pitch PHTRO.roll PKLDS.latitude PKLDS.longitude PKLDS.course PKLDS.variation
			PKLSH.latitude PKLSH.longitude PKNDS.latitude PKNDS.longitude PKNDS.course PKNDS.variation
			PKNSH.latitude PKNSH.longitude PKWDWPL.latitude PKWDWPL.longitude PKWDWPL.course
			PRDID.pitch PRDID.roll PRDID.heading
			RMB.destinationLatitude RMB.destinationLongitude RMB.trueBearingToDestination
			RMC.latitude RMC.longitude RMC.course RMC.variation RSA.starboardRudderAngle RSA.portRudderAngle
			RSD.cursorBearingDegrees THS.heading TLL.targetLatitude TLL.targetLongitude TTM.bearing TTM.targetCourse
			VDR.setDegreesTrue VDR.setDegreesMagnetic VHW.trueHeading VHW.magneticHeading VTG.trueTrack VTG.magneticTrack
			VWR.measuredAngle VWT.trueAngle WPL.latitude WPL.longitude`,
		"deg/min": "ROT.rateOfTurn",
		"arcmin":  "DTM.latitudeOffsetMinute DTM.longitudeOffsetMinute",
		"kn": `MDA.windSpeedKnots MWD.windSpeedKnots PKLDS.speed PKNDS.speed PKWDWPL.speed RMB.velocityToDestinationKnots RMC.speed
			VBW.longitudinalWaterSpeedKnots VBW.transverseWaterSpeedKnots VBW.longitudinalGroundSpeedKnots VBW.transverseGroundSpeedKnots
			VBW.sternTraverseWaterSpeedKnots VBW.sternTraverseGroundSpeedKnots VDR.driftKnots VHW.speedThroughWaterKnots
			VPW.speedKnots VTG.groundSpeedKnots VWR.speedKnots VWT.speedKnots`,
		"km/h": "VHW.speedThroughWaterKPH VTG.groundSpeedKPH VWR.speedKPH VWT.speedKPH",
		"m/s":  "MDA.windSpeedMeters MWD.windSpeedMeters VPW.speedMPS VWR.speedMPS VWT.speedMPS",
		"m": `DBK.depthMeters DBS.depthMeters DBT.depthMeters DPT.depth DPT.offset DPT.rangeScale DTM.altitudeOffsetMeters
			GGA.altitude GGA.separation GNS.altitude GNS.separation PASHR.heave PGRME.horizontal PGRME.vertical PGRME.spherical
			PSKPDPT.depth PSKPDPT.offset PSKPDPT.rangeScale VSD.staticDraughtMeters`,
		"ft":     "DBK.depthFeet DBS.depthFeet DBT.depthFeet",
		"fathom": "DBK.depthFathoms DBS.depthFathoms DBT.depthFathoms",
		"nmi": `BEC.distanceNauticalMiles BWC.distanceNauticalMiles BWR.distanceNauticalMiles RMB.crossTrackErrorNauticalMiles
			RMB.rangeToDestinationNauticalMiles VLW.totalInWater VLW.sinceResetInWater VLW.totalOnGround VLW.sinceResetOnGround`,
		"°C":   "MDA.airTemp MDA.waterTemp MDA.dewPoint MTA.temperature MTW.temperature PGRMT.sensorTemperature",
		"%":    "MDA.relativeHum RPM.pitchPercent",
		"bar":  "MDA.pressureBar",
		"inHg": "MDA.pressureInch",
		"rpm":  "RPM.speedRPM",
		"dB":   "GSV.info.*.snr",
		"s":    "GGA.dgpsAge GNS.age HBT.interval",
		"h":    "ZDA.offsetHours",
		"min":  "ZDA.offsetMinutes",
	}
}

// saidUnit is a value whose unit is in another field of the sentence.
type saidUnit struct {
	value, unit string            // the ends of their names
	kind        string            // of the sentence
	of          string            // the end of the name of a field by whose text the unit is told too; "": none
	units       map[string]string // by the text of the field unit, with that of the field of in front
}

// saidUnits returns the values whose unit the sentence says. The codes of XDR are told by the transducer.
func saidUnits() []saidUnit {
	return []saidUnit{
		{kind: "MWV", value: "windSpeed", unit: "windSpeedUnit", units: map[string]string{"K": "km/h", "M": "m/s", "N": "kn", "S": "mph"}},
		{kind: "XDR", value: ".value", unit: ".unit", of: ".transducerType", units: map[string]string{
			"AD": "deg", "CC": "°C", "CK": "K", "DM": "m", "FH": "Hz", "HP": "%", "NN": "N", "PB": "bar", "PP": "Pa",
			"RI": "l/s", "BK": "kg/m³", "IA": "A", "LS": "ppt", "TR": "rpm", "UV": "V", "VM": "m³", "VP": "%",
		}},
	}
}

// guard says which values are none when a field of the sentence says so.
type guard struct {
	by     string            // the field that tells, or a list
	bad    func(string) bool // its text when they are none
	why    string            // the word of their quality
	values []string
}

// guards returns the guards of each kind of sentence. Where several fields tell, each alone does.
func guards() map[string][]guard {
	const noFix, invalid = "no-fix", "invalid"
	not := func(good string) func(string) bool { return func(text string) bool { return text != good } }
	is := func(bad string) func(string) bool { return func(text string) bool { return text == bad } }
	course := []string{"latitude", "longitude", "speed", "course"}
	place := course[:2]
	height := []string{"latitude", "longitude", "altitude", "separation"}
	bearing := []string{"bearingTrue", "bearingMagnetic", "distanceNauticalMiles"}
	target := []string{"crossTrackErrorNauticalMiles", "rangeToDestinationNauticalMiles", "trueBearingToDestination", "velocityToDestinationKnots"}
	these := strings.Fields
	return map[string][]guard{
		"RMC":   {{"validity", not("A"), noFix, course}, {"faaMode", is("N"), noFix, course}},
		"GLL":   {{"validity", not("A"), noFix, place}, {"faaMode", is("N"), noFix, place}},
		"GGA":   {{"fixQuality", func(q string) bool { return q == "" || q == "0" }, noFix, height}},
		"GNS":   {{"mode", func(modes string) bool { return strings.Trim(modes, "N") == "" }, noFix, height}},
		"VTG":   {{"faaMode", is("N"), noFix, these("trueTrack magneticTrack groundSpeedKnots groundSpeedKPH")}},
		"BWC":   {{"faaMode", is("N"), noFix, bearing}},
		"BWR":   {{"faaMode", is("N"), noFix, bearing}},
		"RMB":   {{"dataStatus", not("A"), noFix, target}, {"faaMode", is("N"), noFix, target}},
		"XTE":   {{"statusGeneralWarning", not("A"), invalid, these("crossTrackErrorMagnitude")}, {"faaMode", is("N"), noFix, these("crossTrackErrorMagnitude")}},
		"APB":   {{"statusGeneralWarning", not("A"), invalid, these("crossTrackErrorMagnitude")}, {"faaMode", is("N"), noFix, these("crossTrackErrorMagnitude")}},
		"PKLDS": {{"validity", not("A"), noFix, course}},
		"PKLSH": {{"validity", not("A"), noFix, place}},
		"PKNDS": {{"validity", not("A"), noFix, course}},
		"PKNSH": {{"validity", not("A"), noFix, place}},
		"MWV":   {{"statusValid", not("true"), invalid, these("windAngle windSpeed")}},
		"OSD":   {{"headingStatus", not("A"), invalid, these("heading")}},
		"ROT":   {{"valid", not("true"), invalid, these("rateOfTurn")}},
		"RPM":   {{"status", not("A"), invalid, these("speedRPM pitchPercent")}},
		"RSA": {
			{"starboardRudderAngleStatus", not("A"), invalid, these("starboardRudderAngle")},
			{"portRudderAngleStatus", not("A"), invalid, these("portRudderAngle")},
		},
		"THS": {{"status", func(s string) bool { return s == "" || s == "V" }, invalid, these("heading")}},
		"VBW": {
			{"waterSpeedStatus", not("A"), invalid, these("longitudinalWaterSpeedKnots transverseWaterSpeedKnots")},
			{"groundSpeedStatus", not("A"), invalid, these("longitudinalGroundSpeedKnots transverseGroundSpeedKnots")},
			{"sternTraverseWaterSpeedStatus", not("A"), invalid, these("sternTraverseWaterSpeedKnots")},
			{"sternTraverseGroundSpeedStatus", not("A"), invalid, these("sternTraverseGroundSpeedKnots")},
		},
	}
}
