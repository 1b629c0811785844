package devicemgmt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/internal/edgecore"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/pkg/twin"
)

func TestSettings(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"tokens is not set":     func(s *Settings) { s.AllowAnonymous = false },
		"exclude each other":    func(s *Settings) { s.Tokens = "file" },
		"topic must not be":     func(s *Settings) { s.Kafka, s.Topic = []string{"kafka:9092"}, "" },
		"want 1s to 168h":       func(s *Settings) { s.Silence = time.Millisecond },
		"state-silence and wri": func(s *Settings) { s.WriteTime = 8 * 24 * time.Hour },
	} {
		s := DefaultSettings()
		s.AllowAnonymous = true
		require.NoError(t, s.Validate())
		change(&s)
		require.ErrorContains(t, s.Validate(), name)
	}
}

func TestSettingsNameTheAuthenticator(t *testing.T) {
	s := Settings{AllowAnonymous: true}
	auth, err := s.Authenticator()
	require.NoError(t, err)
	require.Equal(t, Anonymous{}, auth)

	file := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(file, []byte("# nobody\n"), 0o600))
	_, err = (&Settings{Tokens: file}).Authenticator()
	require.ErrorContains(t, err, "holds no token", "a file without tokens would lock everybody out")
	_, err = (&Settings{Tokens: file + "x"}).Authenticator()
	require.Error(t, err)
	require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	auth, err = (&Settings{Tokens: file}).Authenticator()
	require.NoError(t, err)
	require.NoError(t, auth.Allow(t.Context(), "secret", Get, ""))
	require.ErrorIs(t, auth.Allow(t.Context(), "guess", Get, ""), ErrUnauthenticated)
}

func TestTwinsAreReadAsTheEdgeWritesThem(t *testing.T) {
	text := EdgeCoreText()
	for _, c := range []struct {
		kind  twin.Type
		value twin.Value
	}{
		{twin.TypeInt, twin.IntValue(-9007199254740993)},
		{twin.TypeFloat, twin.FloatValue(1e21)},
		{twin.TypeDouble, twin.FloatValue(20.5)},
		{twin.TypeBoolean, twin.BoolValue(true)},
		{twin.TypeString, twin.StringValue("20 °C, #1")},
		{twin.TypeString, twin.StringValue("")},
	} {
		require.NoError(t, text.Check(c.kind, c.value))
		written, err := edgecore.EncodeValue(c.kind, c.value)
		require.NoError(t, err)
		value, quality := text.Decode(c.kind, written)
		require.True(t, quality.IsGood())
		require.True(t, c.value.Equal(value), "%s: %s", c.value, value)
	}
	_, quality := text.Decode(twin.TypeInt, "warm")
	require.Equal(t, twin.Bad("format"), quality)
	require.Error(t, text.Check(twin.TypeString, twin.StringValue(strings.Repeat("é", 300))))
}

type producer struct {
	topic   string
	records []kafka.Record
	err     error
}

func (p *producer) Produce(_ context.Context, topic string, records []kafka.Record) error {
	p.topic, p.records = topic, records
	return p.err
}

func TestTheTopicOfTwins(t *testing.T) {
	p := &producer{}
	require.NoError(t, KafkaPublisher{p, TwinsTopic}.Publish(t.Context(), []Record{{"default/boiler", []byte("{}")}, {"default/pump", nil}}))
	require.Equal(t, "iot-twins", p.topic)
	require.Equal(t, []kafka.Record{{Key: []byte("default/boiler"), Value: []byte("{}")}, {Key: []byte("default/pump")}}, p.records)
	p.err = errors.New("away")
	require.ErrorIs(t, KafkaPublisher{p, TwinsTopic}.Publish(t.Context(), nil), p.err)
}
