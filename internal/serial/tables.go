package serial

import (
	"time"

	"github.com/twinline/twinline/internal/checksum"
	"github.com/twinline/twinline/internal/framing"
	"github.com/twinline/twinline/internal/schema"
	"github.com/twinline/twinline/pkg/twin"
)

// Bounds of a declaration.
const (
	maxRequests = 64
	maxInit     = 16
	maxValues   = 32
	maxPattern  = 1024 // bytes of a regular expression
)

// deviceConfig is spec.protocol.configData as written, over that of its profile.
type deviceConfig struct {
	URL      string                   `key:"url"`
	Profile  string                   `key:"profile"`
	Timeout  time.Duration            `key:"timeout"`
	Retries  int                      `key:"retries"`
	Pause    time.Duration            `key:"pause"`
	Recovery *time.Duration           `key:"recovery"`
	Silence  time.Duration            `key:"silence"`
	Clock    string                   `key:"clock"`
	Echo     bool                     `key:"echo"`
	Sender   string                   `key:"sender"`
	Values   map[string]twin.Value    `key:"values"`
	Framing  *framingConfig           `key:"framing"`
	Check    *checkConfig             `key:"check"`
	Init     []requestConfig          `key:"init"`
	Requests map[string]requestConfig `key:"requests"`
	Meter    *meterConfig             `key:"meter"`
}

// framingConfig says where a frame begins and ends.
type framingConfig struct {
	Kind      string        `key:"kind"`
	Delimiter string        `key:"delimiter"`
	Start     string        `key:"start"`
	End       string        `key:"end"`
	Restart   bool          `key:"restart"`
	After     int           `key:"after"`
	Until     string        `key:"until"`
	Escape    string        `key:"escape"`
	EscapeBy  string        `key:"escapeBy"`
	Size      int           `key:"size"`
	Offset    int           `key:"offset"`
	Width     int           `key:"width"`
	Order     string        `key:"order"`
	Adjust    int           `key:"adjust"`
	Gap       time.Duration `key:"gap"`
	Max       int           `key:"max"`
}

// checkConfig says how a frame proves that it is whole.
type checkConfig struct {
	Kind     string `key:"kind"`
	From     int    `key:"from"`
	To       int    `key:"to"`
	At       *int   `key:"at"`
	Mark     string `key:"mark"`
	Encoding string `key:"encoding"`
	Digits   int    `key:"digits"`
	Order    string `key:"order"`
	SevenBit bool   `key:"sevenBit"`
}

// requestConfig is one question to the instrument.
type requestConfig struct {
	Send    string         `key:"send"`
	SendHex string         `key:"sendHex"`
	Raw     bool           `key:"raw"`
	Reply   *replyConfig   `key:"reply"`
	Timeout *time.Duration `key:"timeout"`
	Pause   *time.Duration `key:"pause"`
}

// replyConfig says which frame answers.
type replyConfig struct {
	None    bool              `key:"none"`
	Prefix  string            `key:"prefix"`
	Match   string            `key:"match"`
	Refused map[string]string `key:"refused"`
}

// meterConfig is the dialogue of IEC 62056-21.
type meterConfig struct {
	Address string `key:"address"`
	Mode    string `key:"mode"`
	MaxBaud int    `key:"maxBaud"`
}

func urlField() schema.Field {
	return schema.Field{
		Key: "url", Kind: schema.String, Required: true, Min: 1, Max: 512, Example: "serial:///dev/serial/by-id/usb-FTDI_1234-if00-port0?baud=9600",
		Doc: "The line: `serial:///dev/ttyUSB0?baud=9600&bits=8&parity=none&stop=1`, with `rts=on`, `dtr=off` and `rs485=on` where the port wants them; `tcp://host:port` for a device server that passes bytes on; " +
			"`rfc2217://host:port?baud=9600` for one that takes the settings too. Settings left out are the profile's, else 9600 baud, 8 bits, no parity, 1 stop bit. A path below `/dev/serial/by-id` finds the port again when it was replugged.",
	}
}

// DeviceTable describes the configData of a serial device: it decodes it and documents it.
func DeviceTable() *schema.Table {
	return &schema.Table{
		Title: "Serial: the device",
		Doc: "`spec.protocol.configData`, or `protocolConfigData` of the model; the device's keys override the model's. Devices with the same `url` share one line. " +
			"Texts that are sent or looked for may have the escapes `\\r \\n \\t \\0 \\xHH \\\\ \\$`, and `${name}` for one of the `values`.",
		Fields: []schema.Field{
			urlField(),
			{Key: "profile", Kind: schema.Enum, Enum: ProfileNames(), Doc: "What the instrument speaks. A profile stands for keys of this table, which may be overridden one by one, and names fields. See [profiles](../profiles/README.md)."},
			{Key: "timeout", Kind: schema.Duration, Unit: "ms", Default: "1s", Min: 10 * time.Millisecond, Max: time.Minute, Doc: "How long one answer may take."},
			{Key: "retries", Kind: schema.Int, Default: 1, Min: 0, Max: 5, Doc: "How often a question is repeated that was not answered, or badly. Writes are repeated by the mapper."},
			{Key: "pause", Kind: schema.Duration, Unit: "ms", Default: "0s", Min: time.Duration(0), Max: 10 * time.Second, Doc: "How long the line is left alone after each request to this device."},
			{Key: "recovery", Kind: schema.Duration, Unit: "ms", Min: time.Duration(0), Max: time.Minute, Doc: "How long the device is not asked after it left a question open, so that a late answer is not taken for the next one's. Default: as long as `timeout`, and longer where later answers were seen. `0` where each answer names its question."},
			{Key: "silence", Kind: schema.Duration, Unit: "ms", Default: "10s", Min: 10 * time.Millisecond, Max: 24 * time.Hour, Doc: "For what the device says by itself: after so long without it a property is `bad:stale`."},
			{Key: "clock", Kind: schema.Enum, Enum: []string{"device", "arrival"}, Default: "device", Doc: "Which time a telegram has that carries one: its own, or when it came. A clock that is more than a day off, or a time of day that is more than 15 minutes off, is not believed: the value is then `uncertain:clock` with the time when it came."},
			{Key: "echo", Kind: schema.Bool, Default: false, Doc: "The line repeats what is sent on it, as many RS-485 adapters do; the repetition is taken off."},
			{Key: "sender", Kind: schema.String, Min: 1, Max: 128, Doc: "Only telegrams of this sender are the device's: the talker of NMEA sentences, the number of a meter. So several devices share a line."},
			{Key: "values", Kind: schema.Map, Max: maxValues, Item: &schema.Field{Kind: schema.Scalar}, Example: `{address: "05"}`, Doc: "Values for the places `${name}` in what is sent and looked for. A model can have the texts, and each device its address."},
			{Key: "framing", Kind: schema.Nested, Table: framingTable(), Doc: "Where a frame begins and ends. Default: lines."},
			{Key: "check", Kind: schema.Nested, Table: checkTable(), Doc: "How a frame proves that it is whole; one that does not is dropped."},
			{Key: "init", Kind: schema.List, Max: maxInit, Item: &schema.Field{Kind: schema.Nested, Table: requestTable()}, Doc: "What is sent when the port was opened, when the device answers again after it did not, and, if it speaks by itself, every time that it was not heard for `silence`."},
			{Key: "requests", Kind: schema.Map, Max: maxRequests, Item: &schema.Field{Kind: schema.Nested, Table: requestTable()}, Doc: "The questions, by name."},
			{Key: "meter", Kind: schema.Nested, Table: meterTable(), Doc: "For the profile `iec62056`: the dialogue of IEC 62056-21."},
		},
	}
}

func framingTable() *schema.Table {
	return &schema.Table{Title: "Framing", Fields: []schema.Field{
		{Key: "kind", Kind: schema.Enum, Enum: []string{"delimiter", "between", "fixed", "length", "silence"}, Default: "delimiter", Doc: "`delimiter`: a frame ends with it. `between`: it stands between `start` and `end`. `fixed`: it has `size` bytes. `length`: it says its length. `silence`: it ends when the line is quiet for `gap`."},
		{Key: "delimiter", Kind: schema.String, Min: 1, Max: 64, Doc: `What ends a frame; default a line feed, before which a carriage return is taken off.`, Example: `\r\n`},
		{Key: "start", Kind: schema.String, Min: 1, Max: 64, Doc: "What a frame begins with. Needed for `between`; for the other kinds but `silence` it finds the frames in noise.", Example: `\x02`},
		{Key: "end", Kind: schema.String, Min: 1, Max: 64, Doc: "What a `between` frame ends with.", Example: `\x03`},
		{Key: "restart", Kind: schema.Bool, Default: false, Doc: "`start` inside a frame begins it anew, because no frame holds it: so one that was cut off is not joined to the next."},
		{Key: "after", Kind: schema.Int, Min: 0, Max: 64, Default: 0, Doc: "Bytes behind the end that belong to the frame, such as a checksum."},
		{Key: "until", Kind: schema.String, Min: 1, Max: 64, Doc: "What stands behind the end belongs to the frame up to and with this, at most `after` bytes.", Example: `\r\n`},
		{Key: "escape", Kind: schema.Enum, Enum: []string{"none", "double", "prefix", "slip", "hdlc"}, Default: "none", Doc: "How bytes of the frame are told from its ends: `double`: `escapeBy` twice is one; `prefix`: `escapeBy` before a byte means that byte; `slip` (RFC 1055); `hdlc` (7D, and bit 5 turned)."},
		{Key: "escapeBy", Kind: schema.String, Min: 1, Max: 32, Doc: "The escape of `double` and `prefix`.", Example: `\x10`},
		{Key: "size", Kind: schema.Int, Min: 1, Max: framing.MaxFrame, Doc: "Bytes of a `fixed` frame, all together."},
		{Key: "offset", Kind: schema.Int, Min: 0, Max: 255, Doc: "Where the length stands in a `length` frame, counted from 0."},
		{Key: "width", Kind: schema.Int, Min: 1, Max: 4, Doc: "Bytes of the length; default 1."},
		{Key: "order", Kind: schema.Enum, Enum: []string{"big", "little"}, Default: "big", Doc: "Byte order of the length."},
		{Key: "adjust", Kind: schema.Int, Min: -framing.MaxFrame, Max: framing.MaxFrame, Default: 0, Doc: "What the length lacks: the whole frame has length plus `adjust` bytes."},
		{Key: "gap", Kind: schema.Duration, Unit: "ms", Min: time.Millisecond, Max: time.Minute, Doc: "The silence that ends a `silence` frame. For the other kinds: a frame that is not complete is given up after it."},
		{Key: "max", Kind: schema.Int, Min: 1, Max: framing.MaxFrame, Default: framing.DefaultMax, Doc: "The most bytes of a frame; more is noise."},
	}}
}

func checkTable() *schema.Table {
	return &schema.Table{Title: "Check", Fields: []schema.Field{
		{Key: "kind", Kind: schema.Enum, Required: true, Enum: checksum.Names(), Doc: "The sum, or a CRC by its name in the CRC catalogue."},
		{Key: "from", Kind: schema.Int, Min: -framing.MaxFrame, Max: framing.MaxFrame, Default: 0, Doc: "The first byte of the frame that is summed, counted from 0; negative from the frame's end."},
		{Key: "to", Kind: schema.Int, Min: -framing.MaxFrame, Max: framing.MaxFrame, Default: 0, Doc: "The byte behind the last that is summed; negative from the frame's end. Default: up to the check itself."},
		{Key: "at", Kind: schema.Int, Min: -framing.MaxFrame, Max: framing.MaxFrame, Doc: "Where the check stands; negative from the frame's end. Default: last in the frame, before a delimiter, and before `end` or, with `after`, behind it."},
		{Key: "mark", Kind: schema.String, Min: 1, Max: 8, Doc: "What stands before the check and belongs to it.", Example: "*"},
		{Key: "encoding", Kind: schema.Enum, Enum: []string{"binary", "hex", "decimal"}, Default: "binary", Doc: "Whether it is bytes, hexadecimal or decimal digits."},
		{Key: "digits", Kind: schema.Int, Min: 1, Max: 20, Doc: "How many digits; default as many as it needs."},
		{Key: "order", Kind: schema.Enum, Enum: []string{"big", "little"}, Default: "big", Doc: "Byte order of a binary one."},
		{Key: "sevenBit", Kind: schema.Bool, Default: false, Doc: "The topmost bit of each byte is left out of the sum."},
	}}
}

func requestTable() *schema.Table {
	return &schema.Table{Title: "Request", Fields: []schema.Field{
		{Key: "send", Kind: schema.String, Min: 1, Max: 4096, Doc: "What is sent, as text. `framing` and `check` are put around it.", Example: `READ ${address}?`},
		{Key: "sendHex", Kind: schema.String, Min: 1, Max: 4096, Doc: "What is sent, in hexadecimal digits.", Example: "02 30 ${address} 03"},
		{Key: "raw", Kind: schema.Bool, Default: false, Doc: "Send it as it is, without framing and check."},
		{Key: "reply", Kind: schema.Nested, Table: replyTable(), Doc: "Which frame is the answer. Default: the next one."},
		{Key: "timeout", Kind: schema.Duration, Unit: "ms", Min: 10 * time.Millisecond, Max: time.Minute, Doc: "In place of the device's."},
		{Key: "pause", Kind: schema.Duration, Unit: "ms", Min: time.Duration(0), Max: 10 * time.Second, Doc: "In place of the device's."},
	}}
}

func replyTable() *schema.Table {
	return &schema.Table{Title: "Reply", Fields: []schema.Field{
		{Key: "none", Kind: schema.Bool, Default: false, Doc: "There is no answer."},
		{Key: "prefix", Kind: schema.String, Min: 1, Max: 256, Doc: "What the answer begins with. Other frames are not taken for it."},
		{Key: "match", Kind: schema.String, Min: 1, Max: maxPattern, Doc: "A regular expression (RE2) that the answer matches.", Example: `^${address}=`},
		{Key: "refused", Kind: schema.Map, Max: 16, Item: &schema.Field{Kind: schema.String, Min: 1, Max: maxPattern}, Example: "{overload: '^S \\+'}", Doc: "Answers that are no value: the word for the quality (`bad:overload`) and a regular expression. Of a write they are a refusal."},
	}}
}

func meterTable() *schema.Table {
	return &schema.Table{Title: "Meter", Fields: []schema.Field{
		{Key: "address", Kind: schema.String, Min: 1, Max: 32, Doc: "The meter's address, where several share a line."},
		{Key: "mode", Kind: schema.Enum, Enum: []string{"auto", "a", "b", "c", "d"}, Default: "auto", Doc: "The mode of the standard. `auto`: as the meter's identification says. `d`: it sends by itself."},
		{Key: "maxBaud", Kind: schema.Int, Min: 300, Max: 19200, Default: 19200, Doc: "The fastest rate that is agreed to."},
	}}
}
