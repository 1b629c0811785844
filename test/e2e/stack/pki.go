package stack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// credential is a certificate with its key, both in PEM.
type credential struct{ cert, key []byte }

// subject says whom a certificate is for.
type subject struct {
	name   string
	groups []string
	server bool
}

// writePKI makes all keys and certificates of the control plane, and the
// kubeconfigs of those who talk to it. Nothing is kept from an earlier stack.
func (s *Stack) writePKI() error {
	ca, err := newAuthority("twinline-e2e")
	if err != nil {
		return err
	}
	// The front proxy's authority must differ from the one of clients, or any
	// client could pass for the proxy.
	front, err := newAuthority("twinline-e2e-front-proxy")
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.crt": ca.pem, "front-ca.crt": front.pem}
	if files["ca.key"], err = keyPEM(ca.key); err != nil {
		return err
	}
	for name, issue := range map[string]struct {
		by authority
		to subject
	}{
		"apiserver":   {ca, subject{name: "kube-apiserver", server: true}},
		"kubelet":     {ca, subject{name: "apiserver-kubelet-client", groups: []string{"system:masters"}}},
		"front-proxy": {front, subject{name: "front-proxy-client"}},
	} {
		c, err := issue.by.issue(issue.to)
		if err != nil {
			return err
		}
		files[name+".crt"], files[name+".key"] = c.cert, c.key
	}
	if files["sa.key"], files["sa.pub"], err = tokenKey(); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(s.path("pki", name), data, 0o600); err != nil {
			return err
		}
	}
	return s.writeKubeconfigs(ca)
}

// writeKubeconfigs writes one kubeconfig per user of the API server.
func (s *Stack) writeKubeconfigs(ca authority) error {
	for name, to := range map[string]subject{
		"admin":       {name: "twinline-admin", groups: []string{"system:masters"}},
		"controllers": {name: "system:kube-controller-manager"},
		"scheduler":   {name: "system:kube-scheduler"},
		"cloudcore":   {name: "cloudcore"},
	} {
		c, err := ca.issue(to)
		if err != nil {
			return err
		}
		data, err := kubeconfig(s.APIServer, to.name, ca.pem, c)
		if err != nil {
			return err
		}
		if err := writeFile(s.path("kube", name+".kubeconfig"), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig returns a kubeconfig with everything embedded. It is JSON, which
// is YAML too.
func kubeconfig(server, user string, ca []byte, c credential) ([]byte, error) {
	type object = map[string]any
	b64 := base64.StdEncoding.EncodeToString
	data, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "twinline",
		"clusters": []object{{"name": "twinline", "cluster": object{
			"server": server, "certificate-authority-data": b64(ca),
		}}},
		"users": []object{{"name": user, "user": object{
			"client-certificate-data": b64(c.cert), "client-key-data": b64(c.key),
		}}},
		"contexts": []object{{"name": "twinline", "context": object{"cluster": "twinline", "user": user}}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig of %s: %w", user, err)
	}
	return append(data, '\n'), nil
}

func newAuthority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("make key of %s: %w", name, err)
	}
	tmpl, err := template(name)
	if err != nil {
		return authority{}, err
	}
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("sign certificate of %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("parse certificate of %s: %w", name, err)
	}
	return authority{cert: cert, key: key, pem: certPEM(der)}, nil
}

// issue makes a key and a certificate for client use, and for server use on
// loopback when the subject is a server.
func (a authority) issue(to subject) (credential, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return credential{}, fmt.Errorf("make key of %s: %w", to.name, err)
	}
	tmpl, err := template(to.name)
	if err != nil {
		return credential{}, err
	}
	tmpl.Subject.Organization = to.groups
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if to.server {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}
		tmpl.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return credential{}, fmt.Errorf("sign certificate of %s: %w", to.name, err)
	}
	private, err := keyPEM(key)
	if err != nil {
		return credential{}, err
	}
	return credential{cert: certPEM(der), key: private}, nil
}

// template is a certificate that holds from an hour ago for ten years.
func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}, nil
}

// tokenKey makes the key pair that signs service account tokens.
func tokenKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make token key: %w", err)
	}
	if private, err = keyPEM(key); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode token key: %w", err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
