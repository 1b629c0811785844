package forward

import (
	"encoding/json"
	"fmt"
)

// MaxAck bounds an encoded Ack, in bytes.
const MaxAck = 64 << 10

// maxAckError bounds Ack.Error, in bytes.
const maxAckError = 4 << 10

// Code is the kind of a refusal, for decisions.
type Code string

// The kinds of refusal that HTTP has a status for, and ServiceBus has not.
const (
	CodeUnauthorised Code = "unauthorised" // the token is missing or wrong: 401, 403
	CodeTooLarge     Code = "too-large"    // half of the batch may pass: 413
	CodeBusy         Code = "busy"         // come back later: 429, 503
)

// Ack is the cloud's answer to a batch.
type Ack struct {
	// Stream is the batch's.
	Stream string `json:"stream"`
	// Last is the highest number of the batch up to which every record is
	// stored for good; batch.Last when all of it is, batch.First-1 when nothing is.
	Last uint64 `json:"last"`
	// Error is why not all is stored, for people; empty when all is.
	Error string `json:"error,omitempty"`
	// Retry says, of an Error, whether the same batch may pass later. A batch
	// that never can is poison: the sender narrows it down to the record at fault.
	Retry bool `json:"retry,omitempty"`
	// Code is the kind of an Error, where there is one.
	Code Code `json:"code,omitempty"`
}

// EncodeAck returns the JSON of an Ack, at most MaxAck bytes: a longer Error is cut.
func EncodeAck(a Ack) []byte {
	if len(a.Error) > maxAckError {
		a.Error = a.Error[:maxAckError]
	}
	if len(a.Stream) > MaxStream {
		a.Stream = a.Stream[:MaxStream]
	}
	b, _ := json.Marshal(a) // cannot fail: texts and numbers
	return b
}

// DecodeAck reads what EncodeAck wrote. It refuses an answer without a stream
// and without an error: that is not ours.
func DecodeAck(data []byte) (Ack, error) {
	if len(data) > MaxAck {
		return Ack{}, fmt.Errorf("decode ack: %d bytes, at most %d are allowed", len(data), MaxAck)
	}
	var a Ack
	if err := json.Unmarshal(data, &a); err != nil {
		return Ack{}, fmt.Errorf("decode ack: %w", err)
	}
	if a.Stream == "" && a.Error == "" {
		return Ack{}, fmt.Errorf("decode ack: %.80q is not an acknowledgement", data)
	}
	return a, nil
}
