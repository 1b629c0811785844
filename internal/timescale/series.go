package timescale

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/twinline/twinline/internal/history"
)

// dictionary holds the ids of series in memory: device → property → id.
type dictionary struct {
	devices map[string]map[string]int32
	size    int
	max     int
}

func newDictionary(limit int) *dictionary {
	return &dictionary{devices: map[string]map[string]int32{}, max: limit}
}

func (d *dictionary) put(device, property string, id int32) {
	m, ok := d.devices[device]
	if !ok {
		m = map[string]int32{}
		d.devices[device] = m
	}
	if _, ok := m[property]; !ok {
		d.size++
	}
	m[property] = id
}

// trim forgets devices, whichever, until there is room again.
func (d *dictionary) trim() {
	for device, m := range d.devices {
		if d.size <= d.max {
			return
		}
		d.size -= len(m)
		delete(d.devices, device)
	}
}

// missing returns the series of the batch that are not in the dictionary, each once.
func (d *dictionary) missing(b *history.Batch) (devices, properties []string) {
	type key struct{ device, property string }
	seen := map[key]struct{}{}
	for i := range b.Ranges {
		for j := range b.Ranges[i].Events {
			e := &b.Ranges[i].Events[j]
			known := d.devices[e.DeviceID]
			for k := range e.Readings {
				property := e.Readings[k].Property
				if _, ok := known[property]; ok {
					continue
				}
				if _, ok := seen[key{e.DeviceID, property}]; ok {
					continue
				}
				seen[key{e.DeviceID, property}] = struct{}{}
				devices = append(devices, e.DeviceID)
				properties = append(properties, property)
			}
		}
	}
	return devices, properties
}

// learn makes sure that every series of the batch has an id, in the database and
// in the dictionary. It commits by itself: a series without samples does no harm.
func (s *Store) learn(ctx context.Context, b *history.Batch) error {
	s.series.trim()
	devices, properties := s.series.missing(b)
	if len(devices) == 0 {
		return nil
	}
	const insert = `INSERT INTO series (device_id, property)
		SELECT w.device_id, w.property FROM unnest($1::text[], $2::text[]) AS w(device_id, property)
		WHERE NOT EXISTS (SELECT FROM series s WHERE s.device_id = w.device_id AND s.property = w.property)
		ORDER BY 1, 2 ON CONFLICT DO NOTHING`
	const query = `SELECT s.device_id, s.property, s.id FROM series s
		JOIN unnest($1::text[], $2::text[]) AS w(device_id, property) ON s.device_id = w.device_id AND s.property = w.property`
	batch := &pgx.Batch{}
	batch.Queue(insert, devices, properties)
	batch.Queue(query, devices, properties).Query(func(rows pgx.Rows) error {
		var device, property string
		var id int32
		_, err := pgx.ForEachRow(rows, []any{&device, &property, &id}, func() error {
			s.series.put(device, property, id)
			return nil
		})
		return err
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write series: %w", classify(err))
	}
	if devices, _ := s.series.missing(b); len(devices) > 0 {
		return fmt.Errorf("write series: %d have no id", len(devices))
	}
	return nil
}
