package forward

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// ContentType is the media type of an encoded batch.
const ContentType = "application/vnd.twinline.batch"

// MaxServiceBusRequest bounds what CloudCore delivers for one batch, in bytes:
// EdgeCore takes 5 000 000 bytes, and CloudCore's router makes base64 of them.
const MaxServiceBusRequest = 5_000_000*4/3 + 64

// serviceBusRequest is the body of a POST to EdgeCore's ServiceBus
// (edge/pkg/servicebus/servicebus.go, serverRequest).
type serviceBusRequest struct {
	Method    string            `json:"method"`
	TargetURL string            `json:"targetURL"`
	Payload   serviceBusPayload `json:"payload"`
}

type serviceBusPayload struct {
	Token string `json:"token,omitempty"`
	Batch []byte `json:"batch"` // base64
}

// serviceBusResponse is what EdgeCore answers (serverResponse).
type serviceBusResponse struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
	Body string `json:"body"`
}

// EncodeServiceBusRequest returns the body of the POST to EdgeCore that carries
// an encoded batch to the Rule whose target_url is targetURL.
func EncodeServiceBusRequest(targetURL, token string, batch []byte) []byte {
	b, _ := json.Marshal(serviceBusRequest{
		Method: "POST", TargetURL: targetURL,
		Payload: serviceBusPayload{Token: token, Batch: batch},
	}) // cannot fail: texts and bytes
	return b
}

// DecodeServiceBusRequest reads what CloudCore's router posts to the target of a
// servicebus-to-rest Rule: the JSON that the edge posted to ServiceBus, as a
// base64 JSON string (cloud/pkg/router/provider/servicebus). The
// string may lack its quotes, and the JSON may come plain. It returns the
// encoded batch, for Decode, and the token that came with it, which is not checked.
// The answer to the router must be 200 with an EncodeAck body: no other
// status reaches the edge.
func DecodeServiceBusRequest(body []byte) (token string, batch []byte, err error) {
	if len(body) > MaxServiceBusRequest {
		return "", nil, fmt.Errorf("decode ServiceBus request: %d bytes, at most %d are allowed", len(body), MaxServiceBusRequest)
	}
	plain, err := unwrap(body)
	if err != nil {
		return "", nil, fmt.Errorf("decode ServiceBus request: %w", err)
	}
	var r serviceBusRequest
	if err := json.Unmarshal(plain, &r); err != nil {
		return "", nil, fmt.Errorf("decode ServiceBus request: %w", err)
	}
	if len(r.Payload.Batch) == 0 {
		return "", nil, errors.New("decode ServiceBus request: payload.batch is missing")
	}
	return r.Payload.Token, r.Payload.Batch, nil
}

// unwrap takes JSON out of the strings and the base64 it may be wrapped in: once quoted
// and once encoded, in any order, at most three layers.
func unwrap(data []byte) ([]byte, error) {
	const layers = 3
	for range layers + 1 {
		data = bytes.TrimSpace(data)
		switch {
		case len(data) == 0:
			return nil, errors.New("empty")
		case data[0] == '{':
			return data, nil
		case data[0] == '"':
			var s string
			if err := json.Unmarshal(data, &s); err != nil {
				return nil, fmt.Errorf("not a JSON string: %w", err)
			}
			data = []byte(s)
		default:
			plain, err := base64.StdEncoding.DecodeString(string(data))
			if err != nil {
				return nil, fmt.Errorf("neither JSON nor base64: %.40q", data)
			}
			data = plain
		}
	}
	return nil, errors.New("wrapped too often")
}
