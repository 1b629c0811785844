// Package storage takes telemetry from Kafka into a database, each sample once. See DESIGN.md.
package storage
