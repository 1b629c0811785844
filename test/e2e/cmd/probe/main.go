// Command probe is the program the smoke test runs in a pod on the edge node.
// It answers questions about what a pod of Twinline sees there.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:18080", "where to answer")
	token := flag.String("token", "/var/run/twinline/token", "projected service account token")
	serial := flag.String("serial", "/dev/rtu0", "serial line")
	state := flag.String("state", "/state", "folder to write to")
	flag.Parse()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /user", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d:%d", os.Getuid(), os.Getgid())
	})
	mux.HandleFunc("GET /token", answer(func(*http.Request) (string, error) {
		data, err := os.ReadFile(*token)
		return string(data), err
	}))
	mux.HandleFunc("PUT /state", answer(func(*http.Request) (string, error) {
		name := filepath.Join(*state, "written-by-probe")
		return name, os.WriteFile(name, []byte("here"), 0o600)
	}))
	mux.HandleFunc("GET /serial", answer(func(r *http.Request) (string, error) {
		return exchange(*serial, r.URL.Query().Get("line"))
	}))
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-end
		_ = server.Close()
	}()
	log.Printf("answering on %s", *listen)
	if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// answer turns a function into a handler that shows its error.
func answer(f func(*http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := f(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, text)
	}
}

// exchange writes a line to a serial device and returns the line it answers.
func exchange(device, line string) (string, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := fmt.Fprintln(f, line); err != nil {
		return "", err
	}
	return bufio.NewReader(f).ReadString('\n')
}
