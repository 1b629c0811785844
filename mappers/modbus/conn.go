package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twinline/twinline/internal/link"
	"github.com/twinline/twinline/internal/modbus"
	"github.com/twinline/twinline/pkg/mapper"
	"github.com/twinline/twinline/pkg/twin"
)

// conn is one device in service.
type conn struct {
	driver  *Driver
	line    *line
	config  modbus.Config
	fields  map[string]*modbus.Field
	planner *modbus.Planner
	ask     modbus.Ask // askLine, bound once

	// What follows is Read's, of which there is one at a time.
	read  link.Request
	block *modbus.Block
	data  []byte
	took  time.Duration

	// What follows belongs to whoever has the line.
	client *modbus.Client
	on     modbus.Transport // that client is of
}

func newConn(d *Driver, l *line, decl *modbus.Declaration) *conn {
	c := &conn{driver: d, line: l, config: decl.Config, planner: modbus.NewPlanner(decl), fields: make(map[string]*modbus.Field, len(decl.Fields))}
	for i := range decl.Fields {
		c.fields[decl.Fields[i].Property] = &decl.Fields[i]
	}
	c.read = link.Request{Station: uint32(c.config.Unit), Pause: c.config.Pause, Run: c.readBlock}
	c.ask = c.askLine
	return c
}

// Read implements mapper.Conn.
func (c *conn) Read(ctx context.Context, properties []string) ([]twin.Reading, error) {
	return c.planner.Read(ctx, properties, c.ask)
}

// askLine reads one block when the line is free.
func (c *conn) askLine(ctx context.Context, b *modbus.Block) ([]byte, time.Duration, error) {
	c.block = b
	c.read.Deadline, _ = ctx.Deadline()
	if err := c.line.Do(ctx, &c.read); err != nil {
		return nil, 0, link.Fault(err)
	}
	return c.data, c.took, nil
}

// readBlock reads c.block into c.data. It has the line.
func (c *conn) readBlock(ctx context.Context) error {
	client, err := c.use()
	if err != nil {
		return err
	}
	start := time.Now()
	data, err := client.Read(ctx, c.block.Table, c.block.Start, c.block.Count)
	if err != nil {
		return err
	}
	c.took = time.Since(start)
	c.data = append(c.data[:0], data...) // the transport's bytes are the next device's soon
	return nil
}

// use returns the device's client on the line's transport.
func (c *conn) use() (*modbus.Client, error) {
	t, err := c.line.Use(c.config.Endpoint)
	switch {
	case errors.Is(err, link.ErrClash):
		return nil, &mapper.Fault{Why: "conflict", Err: err}
	case err != nil:
		return nil, &mapper.Fault{Why: "connection", Err: err}
	}
	if c.on != t {
		c.client, c.on = modbus.NewClient(&c.config, t), t
	}
	return c.client, nil
}

// Write implements mapper.Conn.
func (c *conn) Write(ctx context.Context, property string, value twin.Value) (twin.Value, error) {
	f := c.fields[property]
	if f == nil {
		return twin.Value{}, refuse("config", fmt.Errorf("write %s: it is not declared, or declared wrongly", property))
	}
	if !f.Writable {
		return twin.Value{}, refuse("read-only", fmt.Errorf("write %s: it is declared ReadOnly", property))
	}
	words, held, err := f.Encode(value)
	if err != nil {
		return twin.Value{}, refuse("range", err)
	}
	request := link.Request{Station: uint32(c.config.Unit), Class: link.Write, Pause: c.config.Pause, Run: func(ctx context.Context) error {
		client, err := c.use()
		if err != nil {
			return err
		}
		if mask, single := f.Mask(); single {
			return client.WriteBits(ctx, f.Address, mask, words[0])
		}
		return client.Write(ctx, f.Table, f.Address, words)
	}}
	if err := c.line.Do(ctx, &request); err != nil {
		return twin.Value{}, fmt.Errorf("write %s: %w", property, link.Fault(err))
	}
	return held, nil
}

// Close implements mapper.Conn.
func (c *conn) Close() error {
	return c.driver.lines.Leave(c.line, c.config.Endpoint, uint32(c.config.Unit))
}

func refuse(why string, err error) error { return &mapper.Fault{Why: why, Refuse: true, Err: err} }
