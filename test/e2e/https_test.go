package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// remoteSamples are as many as the second node sends.
const remoteSamples = 500

// testHTTPS runs a second node with a broker of its own, whose uplink sends by
// HTTPS with a token to a telemetry service with TLS. The samples are in the same database.
func (p *plant) testHTTPS(t *testing.T) {
	on(t, kafkaBroker, database, broker)
	ctx := t.Context()
	free := freeAddresses(t, 5)
	node := &recorderNode{broker: "tcp://" + free[0], namespace: p.Namespace + "-2"}
	node.start(t, p, free[0])

	cert, certKey := p.certificate(t)
	telemetry := launch(t, p.dir, "telemetry-tls", filepath.Join(p.bin, "telemetry"), "--listen="+free[1], "--metrics="+free[2],
		"--tls-cert="+cert, "--tls-key="+certKey, "--kafka="+p.stack.Kafka, "--tokens="+filepath.Join(p.dir, "tokens"))
	uplink := launch(t, p.dir, "uplink-2", filepath.Join(p.bin, "uplink"), "--node=edge-2", "--bus="+node.broker, "--spool="+t.TempDir(),
		"--to=https://"+free[1], "--ca-file="+cert, "--token-file="+filepath.Join(p.dir, "tokens"), "--listen="+free[3], "--metrics="+free[4])
	uplink.ready(t, free[3])
	node.publish(t)
	eventually(t, 30*time.Second, "uplink acknowledges", func() error {
		if acked, published := node.acknowledged(); len(acked) != remoteSamples {
			return fmt.Errorf("%d of %d samples are acknowledged, want %d", len(acked), published, remoteSamples)
		}
		return nil
	})
	eventually(t, 60*time.Second, "the database has them", func() error {
		got, err := storedSamples(ctx, p.database, node.namespace)
		if err != nil {
			return err
		}
		acked, _ := node.acknowledged()
		c := compare(acked, got)
		t.Log(c)
		return c.err()
	})
	node.check(t)
	for _, part := range []*process{uplink, telemetry} {
		if err := part.terminate(); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("the last lines of uplink-2:\n%s", tail(uplink.text(), 20))
		t.Logf("the last lines of telemetry-tls:\n%s", tail(telemetry.text(), 20))
	}
}

// recorderNode is an edge node that has only a broker; the suite is its mapper.
type recorderNode struct {
	*recorder
	broker    string
	namespace string
}

// start starts the node's broker.
func (n *recorderNode) start(t *testing.T, p *plant, address string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	config := p.write(t, "mosquitto-2.conf", []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\n"))
	broker := launch(t, p.dir, "mosquitto-2", "/usr/sbin/mosquitto", "-c", config)
	eventually(t, 10*time.Second, "a second broker", func() error {
		if err := broker.ended(); err != nil {
			return stop{err}
		}
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	n.recorder = record(t, n.broker, n.namespace)
}

// publish publishes samples of a device as a mapper does.
func (n *recorderNode) publish(t *testing.T) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(n.broker).SetClientID("mapper-2"))
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("connect to %s: %v", n.broker, token.Error())
	}
	defer client.Disconnect(250)
	start := time.Now().UTC().Truncate(time.Microsecond).Add(-remoteSamples * time.Second)
	for seq := 1; seq <= remoteSamples; seq++ {
		payload := fmt.Sprintf(`{"device":"%[1]s/remote-1","epoch":3,"seq":%[2]d,"time":%[3]q,"values":{"n":%[2]d,"half":%[2]d.5,"odd":%[4]t,"name":"remote %[2]d"},"quality":{"door":"bad:timeout"}}`,
			n.namespace, seq, start.Add(time.Duration(seq)*time.Second).Format(time.RFC3339Nano), seq%2 == 1)
		token := client.Publish("twinline/telemetry/"+n.namespace+"/remote-1", 1, false, payload)
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatalf("publish: %v", token.Error())
		}
	}
}

// certificate makes a certificate for the loopback that is its own authority.
func (p *plant) certificate(t *testing.T) (cert, certKey string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "telemetry"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return p.write(t, "tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		p.write(t, "tls.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
}
