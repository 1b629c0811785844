package app_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/app"
)

func TestASubjectIsNewOnce(t *testing.T) {
	var s app.Subjects
	for i := range app.MaxSubjects {
		require.True(t, s.First(fmt.Sprint(i)))
	}
	require.False(t, s.First("0"))
	require.False(t, s.First("one more"), "at the bound nothing is new")
}
