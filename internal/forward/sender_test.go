package forward

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twinline/twinline/pkg/twin"
)

func TestAckRoundTrip(t *testing.T) {
	for _, want := range []Ack{
		{Stream: "edge-1/00", Last: 17},
		{Stream: "edge-1/00", Last: 16, Error: "Kafka is away", Retry: true, Code: CodeBusy},
	} {
		got, err := DecodeAck(EncodeAck(want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	long, err := DecodeAck(EncodeAck(Ack{Stream: strings.Repeat("s", 1000), Error: strings.Repeat("<", MaxAck)}))
	require.NoError(t, err, "an answer is never too long")
	require.Len(t, long.Stream, MaxStream)
	require.Len(t, long.Error, maxAckError)
	for _, bad := range []string{"", "null", "{}", "[]", `{"last":3}`, `"ok"`, `<html>`, strings.Repeat(" ", MaxAck+1)} {
		_, err := DecodeAck([]byte(bad))
		require.Error(t, err, bad)
	}
}

// TestServiceBusRequest reads what the lab saw: CloudCore delivers the edge's
// JSON as a base64 JSON string.
func TestServiceBusRequest(t *testing.T) {
	batch := []byte("TWB1\x00\xff batch")
	plain := EncodeServiceBusRequest("/twinline/telemetry", "secret", batch)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(plain, &fields))
	require.Equal(t, "POST", fields["method"])
	require.Equal(t, "/twinline/telemetry", fields["targetURL"])
	encoded := base64.StdEncoding.EncodeToString(plain)
	quoted, err := json.Marshal(plain)
	require.NoError(t, err)
	for name, body := range map[string]string{
		"base64 JSON string": string(quoted),
		"with a newline":     string(quoted) + "\n",
		"base64 bare":        encoded,
		"plain JSON":         string(plain),
		"JSON in a string":   fmt.Sprintf("%q", plain),
	} {
		t.Run(name, func(t *testing.T) {
			token, got, err := DecodeServiceBusRequest([]byte(body))
			require.NoError(t, err)
			require.Equal(t, "secret", token)
			require.Equal(t, batch, got)
		})
	}
	for name, body := range map[string]string{
		"empty":          "",
		"not base64":     "%%%",
		"no batch":       `{"method":"POST","payload":{"token":"x"}}`,
		"other payload":  `{"method":"POST","payload":"text"}`,
		"broken string":  `"abc`,
		"wrapped often":  wrapOften(plain, 5),
		"beyond bound":   strings.Repeat(" ", MaxServiceBusRequest+1),
		"broken content": `{"payload":`,
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := DecodeServiceBusRequest([]byte(body))
			require.Error(t, err)
		})
	}
}

func wrapOften(b []byte, n int) string {
	for range n {
		b = []byte(base64.StdEncoding.EncodeToString(b))
	}
	return string(b)
}

func TestTheLargestBatchFitsServiceBus(t *testing.T) {
	const edgeCoreTakes = 5_000_000
	body := EncodeServiceBusRequest("/twinline/telemetry", strings.Repeat("t", 64<<10), make([]byte, MaxEncoded))
	require.Less(t, len(body), edgeCoreTakes)
	quoted, err := json.Marshal(body)
	require.NoError(t, err)
	_, got, err := DecodeServiceBusRequest(quoted)
	require.NoError(t, err)
	require.Len(t, got, MaxEncoded)
}

func FuzzDecodeServiceBusRequest(f *testing.F) {
	plain := EncodeServiceBusRequest("/t", "secret", []byte("batch"))
	quoted, err := json.Marshal(plain)
	require.NoError(f, err)
	f.Add(plain)
	f.Add(quoted)
	f.Add([]byte(base64.StdEncoding.EncodeToString(plain)))
	f.Fuzz(func(t *testing.T, body []byte) {
		token, batch, err := DecodeServiceBusRequest(body)
		if err != nil {
			return
		}
		token2, batch2, err := DecodeServiceBusRequest(EncodeServiceBusRequest("/t", token, batch))
		require.NoError(t, err)
		require.Equal(t, token, token2)
		require.Equal(t, batch, batch2)
	})
}

// answering returns a server that records the request and answers as told.
func answering(t *testing.T, status int, header http.Header, body string) (url string, request func() (*http.Request, []byte)) {
	t.Helper()
	var last *http.Request
	var lastBody []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r
		lastBody, _ = io.ReadAll(r.Body)
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() (*http.Request, []byte) { return last, lastBody }
}

func TestServiceBusSender(t *testing.T) {
	ack := Ack{Stream: "edge-1/00", Last: 9}
	wrap := func(code int, msg, body string) string {
		b, err := json.Marshal(serviceBusResponse{Code: code, Msg: msg, Body: body})
		require.NoError(t, err)
		return string(b)
	}
	text := string(EncodeAck(ack))
	tests := map[string]struct {
		answer string
		want   Ack
		code   Code
		err    string
	}{
		"acknowledged":    {answer: wrap(200, "receive response from cloud successfully", text), want: ack},
		"quoted":          {answer: wrap(200, "", fmt.Sprintf("%q", text)), want: ack},
		"refused":         {answer: wrap(200, "", `{"stream":"s","last":3,"error":"bad value"}`), want: Ack{Stream: "s", Last: 3, Error: "bad value"}},
		"wrong token":     {answer: wrap(200, "", `{"stream":"s","error":"no such token","code":"unauthorised","retry":true}`), code: CodeUnauthorised, err: "no such token"},
		"too large":       {answer: wrap(200, "", `{"stream":"s","error":"halve it","code":"too-large"}`), code: CodeTooLarge, err: "halve it"},
		"no rule":         {answer: wrap(400, "url /t is not allowed and please make a rule for this url in the cloud", ""), err: "make a rule"},
		"timeout":         {answer: wrap(400, "timeout to get response", ""), err: "timeout"},
		"target's page":   {answer: wrap(200, "", "<html>404</html>"), err: "no acknowledgement"},
		"target is empty": {answer: wrap(200, "", ""), err: "no acknowledgement"},
		"other JSON":      {answer: wrap(200, "", `{"status":"ok"}`), err: "not an acknowledgement"},
		"not ServiceBus":  {answer: "hello", err: "is it EdgeCore's"},
		"endless":         {answer: strings.Repeat("x", maxAnswer+1), err: "beyond"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			url, request := answering(t, 200, nil, tt.answer)
			s := NewServiceBus(url, "/t", "secret")
			defer s.Close()
			got, err := s.Send(t.Context(), []byte("batch"))
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.code, CodeOf(err))
			if tt.err != "" {
				var sendErr *SendError
				require.ErrorAs(t, err, &sendErr)
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			_, body := request()
			token, batch, err := DecodeServiceBusRequest(body)
			require.NoError(t, err)
			require.Equal(t, "secret", token)
			require.Equal(t, "batch", string(batch))
		})
	}
}

func TestHTTPSSender(t *testing.T) {
	ack := Ack{Stream: "edge-1/00", Last: 9}
	text := string(EncodeAck(ack))
	poison := Ack{Stream: "edge-1/00", Last: 3, Error: "bad value"}
	tests := map[string]struct {
		status int
		header http.Header
		answer string
		want   Ack
		code   Code
		after  time.Duration
		err    string
	}{
		"acknowledged":        {status: 200, answer: text, want: ack},
		"poison 400":          {status: 400, answer: string(EncodeAck(poison)), want: poison},
		"poison 422":          {status: 422, answer: string(EncodeAck(poison)), want: poison},
		"400 of a proxy":      {status: 400, answer: "<html>bad request</html>", err: "400"},
		"401":                 {status: 401, answer: "", code: CodeUnauthorised, err: "401"},
		"403":                 {status: 403, answer: "no", code: CodeUnauthorised, err: "403"},
		"404":                 {status: 404, answer: "no", err: "404"},
		"413":                 {status: 413, code: CodeTooLarge, err: "413"},
		"429":                 {status: 429, header: http.Header{"Retry-After": {"7"}}, code: CodeBusy, after: 7 * time.Second, err: "429"},
		"503":                 {status: 503, header: http.Header{"Retry-After": {"1000000"}}, answer: string(EncodeAck(Ack{Stream: "s", Error: "Kafka is away", Retry: true})), code: CodeBusy, after: MaxRetryAfter, err: "Kafka is away"},
		"503 with a date":     {status: 503, header: http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}}, code: CodeBusy, err: "503"},
		"500 with an ack":     {status: 500, answer: text, err: "500"},
		"200 of someone else": {status: 200, answer: "<html>log in</html>", err: "log in"},
		"redirect":            {status: 302, header: http.Header{"Location": {"http://127.0.0.1:1/"}}, err: "302"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			url, request := answering(t, tt.status, tt.header, tt.answer)
			s, err := NewHTTPS(url+"/api/v1/batches", "secret", "")
			require.NoError(t, err)
			defer s.Close()
			got, err := s.Send(t.Context(), []byte("batch"))
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.code, CodeOf(err))
			require.Equal(t, tt.after, RetryAfter(err))
			r, body := request()
			require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
			require.Equal(t, ContentType, r.Header.Get("Content-Type"))
			require.Equal(t, "batch", string(body))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestHTTPSTrustsTheCAFileOnly(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(EncodeAck(Ack{Stream: "s", Last: 1}))
	}))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	s, err := NewHTTPS(srv.URL, "", file)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Send(t.Context(), []byte("batch"))
	require.NoError(t, err)

	stranger, err := NewHTTPS(srv.URL, "", "")
	require.NoError(t, err)
	defer stranger.Close()
	_, err = stranger.Send(t.Context(), []byte("batch"))
	require.ErrorContains(t, err, "certificate")

	require.NoError(t, os.WriteFile(file, []byte("nonsense"), 0o600))
	_, err = NewHTTPS(srv.URL, "", file)
	require.ErrorContains(t, err, "PEM")
	_, err = NewHTTPS(srv.URL, "", file+".gone")
	require.Error(t, err)
}

func TestNobodyThere(t *testing.T) {
	s := NewServiceBus("http://127.0.0.1:1", "/t", "")
	defer s.Close()
	_, err := s.Send(t.Context(), []byte("batch"))
	require.ErrorContains(t, err, "refused")
	require.Empty(t, CodeOf(err))
	require.Empty(t, CodeOf(errors.New("another")))
	require.Zero(t, RetryAfter(errors.New("another")))
}

// TestABatchThroughBothEnds sends a real batch the way EdgeCore and CloudCore
// carry it.
func TestABatchThroughBothEnds(t *testing.T) {
	codec := NewCodec(1)
	want := batchOf(sample("plant/boiler-1", 1, reading("level", twin.IntValue(3))))
	router := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posted, _ := io.ReadAll(r.Body)
		delivered, _ := json.Marshal(posted) // a base64 JSON string of the whole request
		_, data, err := DecodeServiceBusRequest(delivered)
		require.NoError(t, err)
		got, err := codec.Decode(data)
		require.NoError(t, err)
		require.Equal(t, want, got)
		body := string(EncodeAck(Ack{Stream: got.Stream, Last: got.Last}))
		_ = json.NewEncoder(w).Encode(serviceBusResponse{Code: 200, Body: body})
	}))
	defer router.Close()
	data, err := codec.Encode(&want)
	require.NoError(t, err)
	s := NewServiceBus(router.URL, "/t", "")
	defer s.Close()
	ack, err := s.Send(t.Context(), data)
	require.NoError(t, err)
	require.Equal(t, Ack{Stream: want.Stream, Last: want.Last}, ack)
}
