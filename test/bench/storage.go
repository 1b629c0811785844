package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/twinline/twinline/cloudapps/storage"
	"github.com/twinline/twinline/internal/kafka"
	"github.com/twinline/twinline/internal/timescale"
	"github.com/twinline/twinline/pkg/twin"
)

const (
	// databaseEnv names a server to use instead of one of our own; its role may create databases.
	databaseEnv = "TWINLINE_BENCH_DATABASE"
	// databaseDir is the run folder of our own.
	databaseDir = "/var/tmp/twinline-benchdb"
	// scratch is the database that each measurement makes anew.
	scratch = "twinline_bench"

	readings   = 20  // of an event
	eventsFrom = 100 // devices
	partitions = 12
)

// benchStorage takes the same rows into the same tables with the storage
// service, out of Kafka, and with a single COPY, in turn.
func benchStorage(ctx context.Context, o options) error {
	server, stop, err := database(ctx, o)
	if err != nil {
		return err
	}
	defer stop()
	events := makeEvents(o.rows / readings)
	broker, err := preload(ctx, events)
	if err != nil {
		return err
	}
	defer broker.Close()
	sides := []struct {
		name  string
		run   func(context.Context, *timescale.Store, []twin.Event) (float64, error)
		rates []float64
	}{
		{name: "storage service", run: func(ctx context.Context, s *timescale.Store, e []twin.Event) (float64, error) {
			return throughStorage(ctx, s, broker, e)
		}},
		{name: "one COPY", run: throughCopy},
	}
	for range o.rounds {
		for i := range sides {
			rate, err := onFreshDatabase(ctx, server, events, sides[i].run)
			if err != nil {
				return fmt.Errorf("%s: %w", sides[i].name, err)
			}
			sides[i].rates = append(sides[i].rates, rate)
		}
	}
	fmt.Printf("\nStoring %d rows, events of %d readings from %d devices; median of %d\n", len(events)*readings, readings, eventsFrom, o.rounds)
	for _, s := range sides {
		fmt.Printf("  %-24s %12.0f rows/s\n", s.name, middle(s.rates))
	}
	fmt.Printf("  %-24s %12.2f\n", "ratio", middle(sides[0].rates)/middle(sides[1].rates))
	return nil
}

// database returns the DSN of a server, and what to do when done with it.
func database(ctx context.Context, o options) (dsn string, stop func(), err error) {
	if dsn = os.Getenv(databaseEnv); dsn != "" {
		return dsn, func() {}, nil
	}
	stack := func(ctx context.Context, command string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "go", "-C", "test/e2e", "run", "./cmd/stack", "-dir", databaseDir, "-database-only", command)
		cmd.Dir, cmd.Stderr = o.root, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("stack %s: %w", command, err)
		}
		return out, nil
	}
	stop = func() {
		if _, err := stack(context.WithoutCancel(ctx), "down"); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	fmt.Println("starting TimescaleDB")
	if _, err = stack(ctx, "up"); err != nil {
		stop()
		return "", nil, err
	}
	env, err := stack(ctx, "env")
	if err == nil {
		if found := regexp.MustCompile(`DATABASE='([^']+)'`).FindSubmatch(env); found != nil {
			return string(found[1]), stop, nil
		}
		err = errors.New("stack env names no DATABASE")
	}
	stop()
	return "", nil, err
}

// makeEvents returns events of a second's poll each, oldest first.
func makeEvents(n int) []twin.Event {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	events := make([]twin.Event, n)
	for i := range events {
		seq := i/eventsFrom + 1
		e := twin.Event{
			DeviceID: fmt.Sprintf("plant/device-%d", i%eventsFrom), Epoch: 1, Seq: uint64(seq),
			Time: begin.Add(time.Duration(seq)*time.Second + time.Duration(i%eventsFrom)*time.Millisecond),
		}
		for k := range readings {
			e.Readings = append(e.Readings, twin.Reading{Property: fmt.Sprintf("v%02d", k), Value: twin.FloatValue(float64(i%1000) + float64(k)/8)})
		}
		events[i] = e
	}
	return events
}

// preload starts Kafka in this process and fills the topic.
func preload(ctx context.Context, events []twin.Event) (*kafka.Embedded, error) {
	broker, err := kafka.StartEmbedded("", "127.0.0.1:0", partitions, kafka.TelemetryTopic, kafka.DeadLetterTopic)
	if err != nil {
		return nil, err
	}
	producer, err := kafka.NewProducer(kafka.ProducerConfig{Cluster: kafka.Cluster{Brokers: broker.Addrs(), ClientID: "bench"}, Topics: []kafka.Topic{{Name: kafka.TelemetryTopic}}}, silent())
	if err == nil {
		err = producer.Start(ctx)
	}
	if err != nil {
		broker.Close()
		return nil, err
	}
	defer producer.Stop()
	for chunk := range slices.Chunk(events, 1000) {
		records := make([]kafka.Record, len(chunk))
		for i := range chunk {
			records[i] = kafka.Record{Key: []byte(chunk[i].DeviceID), Value: chunk[i].AppendJSON(nil)}
		}
		for err = kafka.ErrAway; errors.Is(err, kafka.ErrAway) && ctx.Err() == nil; { // until it is connected
			if err = producer.Produce(ctx, kafka.TelemetryTopic, records); err != nil {
				_ = pause(ctx, 50*time.Millisecond)
			}
		}
		if err != nil {
			broker.Close()
			return nil, fmt.Errorf("fill kafka: %w", err)
		}
	}
	return broker, nil
}

// onFreshDatabase makes the database anew, runs one side, and checks that it stored every row.
func onFreshDatabase(ctx context.Context, server string, events []twin.Event, run func(context.Context, *timescale.Store, []twin.Event) (float64, error)) (float64, error) {
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		return 0, fmt.Errorf("connect to the database: %w", err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	for _, command := range []string{"DROP DATABASE IF EXISTS " + scratch + " WITH (FORCE)", "CREATE DATABASE " + scratch} {
		if _, err := admin.Exec(ctx, command); err != nil {
			return 0, fmt.Errorf("%s: %w", command, err)
		}
	}
	at, err := url.Parse(server)
	if err != nil {
		return 0, fmt.Errorf("want a postgres:// URL: %w", err)
	}
	at.Path = "/" + scratch
	store, err := timescale.Open(at.String(), silent())
	if err != nil {
		return 0, err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return 0, err
	}
	rate, err := run(ctx, store, events)
	if err != nil {
		return 0, err
	}
	var rows int
	if err := store.Pool().QueryRow(ctx, "SELECT count(*) FROM sample").Scan(&rows); err != nil {
		return 0, fmt.Errorf("count rows: %w", err)
	}
	if want := len(events) * readings; rows != want {
		return 0, fmt.Errorf("%d rows are stored, want %d", rows, want)
	}
	return rate, nil
}

// throughStorage runs the storage service until all is stored. The clock begins with
// its first commit: joining the consumer group takes seconds that have nothing to do with rows.
func throughStorage(ctx context.Context, store *timescale.Store, broker *kafka.Embedded, events []twin.Event) (float64, error) {
	cfg := storage.DefaultConfig()
	cfg.Group = fmt.Sprintf("bench-%d", time.Now().UnixNano())
	letters, source, err := storage.Connect(cfg, kafka.Cluster{Brokers: broker.Addrs(), ClientID: cfg.Group}, silent())
	if err != nil {
		return 0, err
	}
	if err := letters.Start(ctx); err != nil {
		return 0, err
	}
	defer letters.Stop()
	svc := storage.New(cfg, storage.Deps{Store: store, Source: source, Letters: letters, Log: silent(), Registry: prometheus.NewRegistry()})
	if err := svc.Start(ctx); err != nil {
		return 0, err
	}
	defer svc.Stop()
	var began time.Time
	first := 0
	for {
		var done int
		if err := store.Pool().QueryRow(ctx, "SELECT coalesce(sum(next), 0) FROM kafka_offset").Scan(&done); err != nil {
			return 0, fmt.Errorf("read progress: %w", err)
		}
		switch now := time.Now(); {
		case began.IsZero() && done > 0:
			began, first = now, done
			if done == len(events) {
				return 0, errors.New("too few rows to measure: give more with -rows")
			}
		case done == len(events):
			return float64((done-first)*readings) / now.Sub(began).Seconds(), nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// throughCopy stores the rows with one COPY in binary format, the fastest that PostgreSQL
// takes in: no JSON, no Kafka, no watermarks, no offsets, one transaction.
func throughCopy(ctx context.Context, store *timescale.Store, events []twin.Event) (float64, error) {
	columns := []string{"time", "epoch", "seq", "value_double", "series_id"}
	event, reading := 0, -1
	rows := pgx.CopyFromFunc(func() ([]any, error) {
		if reading++; reading == readings {
			event, reading = event+1, 0
		}
		if event == len(events) {
			return nil, nil
		}
		e := &events[event]
		value, _ := e.Readings[reading].Value.AsFloat()
		return []any{e.Time, int64(e.Epoch), int64(e.Seq), value, int32(event%eventsFrom*readings + reading)}, nil
	})
	began := time.Now()
	n, err := store.Pool().CopyFrom(ctx, pgx.Identifier{"sample"}, columns, rows)
	if err != nil {
		return 0, fmt.Errorf("copy: %w", err)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
