//go:build integration

package storage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/service"
	"github.com/twinline/twinline/internal/timescale"
	"github.com/twinline/twinline/internal/timescale/pgtest"
)

// childEnv holds a storage.Config: then the test binary is that storage service.
const childEnv = "TWINLINE_STORAGE_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child runs storage on PostgreSQL as the binary does, until SIGTERM.
func child(text string) error {
	var cfg storage.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store, err := timescale.Open(cfg.Database, log)
	if err != nil {
		return err
	}
	defer store.Close()
	letters, source, err := storage.Connect(cfg, kafka.Cluster{Brokers: cfg.Kafka}, log)
	if err != nil {
		return err
	}
	svc := service.Group("child", letters, storage.New(cfg, storage.Deps{Store: store, Source: source, Letters: letters, Log: log, Registry: prometheus.NewRegistry()}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := svc.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	svc.Stop()
	return nil
}

// killRig is a broker with a disk, a database, and storage services as processes.
type killRig struct {
	server  *pgtest.Server
	broker  *kafka.Embedded
	store   *timescale.Store
	client  *kgo.Client
	config  storage.Config
	members []*exec.Cmd
	out     *os.File
}

func newKillRig(t *testing.T) *killRig {
	t.Helper()
	r := &killRig{server: pgtest.Start(t)}
	var err error
	r.broker, err = kafka.StartEmbedded(t.TempDir(), "127.0.0.1:0", 4, kafka.TelemetryTopic, kafka.DeadLetterTopic)
	require.NoError(t, err)
	t.Cleanup(r.broker.Close)
	r.config = storage.DefaultConfig()
	r.config.Kafka, r.config.Database = r.broker.Addrs(), r.server.Database(t)
	r.config.Linger, r.config.Session, r.config.Records = 10*time.Millisecond, time.Second, 50
	r.store = openPostgres(t, r.config.Database)
	require.NoError(t, r.store.Migrate(t.Context()))
	r.client, err = kgo.NewClient(kgo.SeedBrokers(r.config.Kafka...))
	require.NoError(t, err)
	t.Cleanup(r.client.Close)
	r.out, err = os.Create(filepath.Join(t.TempDir(), "members.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		for i := range r.members {
			r.kill(t, i)
		}
		_ = r.out.Close()
		if t.Failed() {
			log, _ := os.ReadFile(r.out.Name())
			t.Logf("the members said:\n%s", log[max(0, len(log)-20_000):])
		}
	})
	return r
}

// start starts a member; one with an instance takes its partitions back at once.
func (r *killRig) start(t *testing.T, instance string) *exec.Cmd {
	t.Helper()
	r.config.Instance = instance
	text, err := json.Marshal(r.config)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr, cmd.Stdout = r.out, r.out
	require.NoError(t, cmd.Start())
	return cmd
}

func (r *killRig) kill(t *testing.T, i int) {
	t.Helper()
	if r.members[i] == nil {
		return
	}
	require.NoError(t, r.members[i].Process.Kill())
	_ = r.members[i].Wait() // says that it was killed
	r.members[i] = nil
}

func (r *killRig) count(t *testing.T, query string) (n int64) {
	t.Helper()
	require.NoError(t, r.store.Pool().QueryRow(t.Context(), query).Scan(&n))
	return n
}

// TestNothingIsLostOrDoubledThroughKills kills storage services again and
// again, and the database now and then, while events come, some of them twice and out of order.
func TestNothingIsLostOrDoubledThroughKills(t *testing.T) {
	const kills = 24
	instances := []string{"storage-0", "storage-1"}
	r := newKillRig(t)
	r.members = []*exec.Cmd{r.start(t, instances[0]), r.start(t, instances[1]), nil}
	stop := make(chan struct{})
	type counts struct {
		rounds int
		err    error
	}
	produced := make(chan counts, 1)
	go func() {
		rounds, err := r.produce(t.Context(), stop)
		produced <- counts{rounds, err}
	}()
	for k := range kills {
		r.awaitProgress(t)
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) // the fault comes at any moment
		i := k % len(instances)
		r.kill(t, i)
		switch k {
		case 5, 15:
			r.server.Kill(t)
			r.server.Up(t)
		case 9:
			r.members[2] = r.start(t, "") // one more, which has to be rebalanced in and out
		case 18:
			r.kill(t, 2)
		}
		r.members[i] = r.start(t, instances[i])
	}
	close(stop)
	sent := <-produced
	require.NoError(t, sent.err)
	numbered, plain := int64(sent.rounds*killDevices*perRound), int64(sent.rounds*perRound)
	require.Eventually(t, func() bool { return r.read("SELECT count(*) FROM sample") >= numbered+plain }, 2*time.Minute, 50*time.Millisecond, "all events are stored")
	r.requireExactlyOnce(t, numbered, plain)
	for i, m := range r.members[:2] {
		require.NoError(t, m.Process.Signal(syscall.SIGTERM))
		require.NoError(t, m.Wait(), "SIGTERM drains and ends with 0")
		r.members[i] = nil
	}
	r.requireExactlyOnce(t, numbered, plain)
}

// awaitProgress returns when something was stored since it was called.
func (r *killRig) awaitProgress(t *testing.T) {
	t.Helper()
	const sum = "SELECT coalesce(sum(next), 0) FROM kafka_offset"
	before := r.read(sum)
	require.Eventually(t, func() bool { return r.read(sum) > before }, time.Minute, 5*time.Millisecond, "something is stored")
}

// read returns a number from the database; -1 while it is away.
func (r *killRig) read(query string) int64 {
	var n int64
	if err := r.store.Pool().QueryRow(context.Background(), query).Scan(&n); err != nil {
		return -1
	}
	return n
}

func (r *killRig) requireExactlyOnce(t *testing.T, numbered, plain int64) {
	t.Helper()
	require.Equal(t, numbered, r.count(t, "SELECT count(*) FROM sample WHERE epoch IS NOT NULL"))
	require.Equal(t, numbered, r.count(t, "SELECT count(*) FROM (SELECT DISTINCT series_id, epoch, seq FROM sample WHERE epoch IS NOT NULL) s"))
	require.Equal(t, plain, r.count(t, "SELECT count(*) FROM sample WHERE epoch IS NULL"))
	require.Equal(t, plain, r.count(t, "SELECT count(DISTINCT value_int) FROM sample WHERE epoch IS NULL"))
	require.Zero(t, r.count(t, "SELECT count(*) FROM hole"))
}

// What a round of the producer sends.
const (
	killDevices    = 6
	perRound       = 10
	roundsPerEpoch = 25
)

// produce sends rounds of events until stop, and returns how many. A numbered event is sent
// once or twice, and not in order; a plain event once.
func (r *killRig) produce(ctx context.Context, stop <-chan struct{}) (rounds int, err error) {
	for ; ; rounds++ {
		select {
		case <-stop:
			return rounds, nil
		case <-time.After(20 * time.Millisecond): // so that events come all the while
		}
		var records []*kgo.Record
		add := func(key, value string) {
			records = append(records, &kgo.Record{Topic: kafka.TelemetryTopic, Key: []byte(key), Value: []byte(value)})
		}
		for d := range killDevices {
			device := fmt.Sprintf("plant/d%d", d)
			for _, i := range rand.Perm(perRound) {
				e := text(numbered(device, uint64(1+rounds/roundsPerEpoch), uint64(rounds%roundsPerEpoch*perRound+i+1)))
				add(device, e)
				if rand.IntN(3) == 0 {
					add(device, e)
				}
			}
		}
		for i := range perRound {
			n := rounds*perRound + i
			add(fmt.Sprint(n), fmt.Sprintf(`{"device_id":"plain","timestamp":1,"data":{"p":%d}}`, n))
		}
		if err := r.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return rounds, err
		}
	}
}
