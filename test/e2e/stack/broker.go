package stack

import (
	"fmt"
	"time"
)

func (s *Stack) mosquitto() launch {
	return launch{
		argv:        []string{"/usr/sbin/mosquitto", "-c", s.path("mosquitto", "mosquitto.conf")},
		ready:       dialReady(s.Ports.Broker),
		startWithin: 20 * time.Second,
		stopWithin:  10 * time.Second,
	}
}

// writeMosquitto configures a broker without passwords on loopback. It keeps
// nothing on disk: a restart of it is a broker that lost its sessions.
func (s *Stack) writeMosquitto() error {
	config := fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 100000
user root
log_dest stdout
log_type error
log_type warning
log_type notice
`, s.Ports.Broker)
	return writeFile(s.path("mosquitto", "mosquitto.conf"), []byte(config), 0o644)
}
