-- The schema of timescale's migrations, in SQLite's words. Times are
-- microseconds since 1970.
CREATE TABLE series (
    id        INTEGER PRIMARY KEY,
    device_id TEXT NOT NULL,
    property  TEXT NOT NULL,
    UNIQUE (device_id, property)
);
CREATE TABLE sample (
    series_id    INTEGER NOT NULL,
    time         INTEGER NOT NULL,
    epoch        INTEGER,
    seq          INTEGER,
    value_double REAL,
    value_int    INTEGER,
    value_uint   TEXT, -- decimal digits: what is above SQLite's integers
    value_bool   INTEGER,
    value_text   TEXT,
    quality      TEXT
);
CREATE INDEX sample_series ON sample (series_id, time DESC);
CREATE TABLE watermark (
    device_id TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    spans     TEXT NOT NULL,
    floor     INTEGER NOT NULL,
    PRIMARY KEY (device_id, epoch)
) WITHOUT ROWID;
CREATE TABLE kafka_offset (
    topic     TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next      INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE VIEW telemetry AS
SELECT strftime('%Y-%m-%dT%H:%M:%S', s.time / 1000000, 'unixepoch') || printf('.%06dZ', s.time % 1000000) AS time,
       d.device_id, d.property,
       coalesce(s.value_double, s.value_int, CAST(s.value_uint AS REAL), s.value_bool, s.value_text) AS value,
       coalesce(s.quality, 'good') AS quality, s.epoch, s.seq
FROM sample s JOIN series d ON d.id = s.series_id;
