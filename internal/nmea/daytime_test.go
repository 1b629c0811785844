package nmea

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimesOfDay(t *testing.T) {
	const noon = 12*time.Hour + 35*time.Minute + 19500*time.Millisecond
	for text, want := range map[string]bool{
		"GPGGA,123519.5,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,":    true,
		"GPGGA,123519.5,,,,,0,00,,,M,,M,,":                                   false, // no fix
		"GPGLL,4807.038,N,01131.000,E,123519.5,A":                            true,
		"GPGLL,4807.038,N,01131.000,E,123519.5,V":                            false,
		"GNGNS,123519.5,4807.038,N,01131.000,E,AN,08,0.9,545.4,46.9,,":       true,
		"GNGNS,123519.5,,,,,NN,00,,,,,":                                      false,
		"GPRMC,123519.5,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W": false, // it has the date too
		"GPHDT,123.4,T": false,
	} {
		sum := byte(0)
		for _, c := range []byte(text) {
			sum ^= c
		}
		out, err := New().Decode([]byte(fmt.Sprintf("$%s*%02X", text, sum)))
		require.NoError(t, err, text)
		require.Equal(t, want, out.HasDaytime, text)
		if want {
			require.Equal(t, noon, out.Daytime, text)
			require.Zero(t, out.Time, text)
		}
	}
}
