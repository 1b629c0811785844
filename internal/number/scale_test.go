package number

import (
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twinline/twinline/pkg/twin"
)

// A scaled integer prints with no more decimals than scale and offset have.
func TestScalingMakesNoDecimals(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		decimals := rapid.IntRange(0, 6).Draw(rt, "decimals")
		mul := rapid.Int64Range(1, 9999).Draw(rt, "mul")
		raw := rapid.Int64Range(math.MinInt32, math.MaxInt32).Draw(rt, "raw")
		scale := float64(mul) / math.Pow10(decimals)
		s := newScaler(scale, 0)
		got := twin.FloatValue(s.float(uint64(raw), raw < 0)).Text()
		want := ratOf(scale)
		want.Mul(want, ratOf(float64(raw)))
		exact, ok := new(big.Rat).SetString(got)
		require.True(rt, ok)
		require.Zero(rt, exact.Cmp(want), "%d × %g = %s, got %s", raw, scale, want.FloatString(12), got)
	})
}
