package broker_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/twinline/twinline/internal/broker"
	"github.com/twinline/twinline/internal/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheBrokerKeepsTheServiceContract(t *testing.T) {
	servicetest.Stress(t, broker.New("127.0.0.1:0"))
}
