package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
)

// credentials is what the platform answers to a relay or a gateway that registers, as it came.
type credentials struct {
	GatewayID string `json:"gatewayId"`
	PKI       struct {
		ServerCertificate      string `json:"serverCertificate"`
		ServerPrivateKey       string `json:"serverPrivateKey"`
		ClientCertificateChain string `json:"clientCertificateChain"`
	} `json:"pki"`
	SSH struct {
		// A relay's.
		ServerCertificate string `json:"serverCertificate"`
		ServerPrivateKey  string `json:"serverPrivateKey"`
		ClientCAPublicKey string `json:"clientCAPublicKey"`
		// A gateway's.
		ClientCertificate string `json:"clientCertificate"`
		ClientPrivateKey  string `json:"clientPrivateKey"`
		ServerCAPublicKey string `json:"serverCAPublicKey"`
	} `json:"ssh"`
}

func load(path string) (*credentials, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	read := new(credentials)
	if err := json.Unmarshal(text, read); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return read, nil
}

// tls is the configuration of the peer as a TLS server: only its leaf is shown, and clients must have a certificate.
func (c *credentials) tls(services []string) (*tls.Config, error) {
	leaf, err := tls.X509KeyPair([]byte(c.PKI.ServerCertificate), []byte(c.PKI.ServerPrivateKey))
	if err != nil {
		return nil, err
	}
	leaf.Certificate = leaf.Certificate[:1]
	anchors := x509.NewCertPool()
	if !anchors.AppendCertsFromPEM([]byte(c.PKI.ClientCertificateChain)) {
		return nil, errors.New("no certificate in the client chain")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{leaf},
		ClientCAs:    anchors,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   services,
	}, nil
}

// certified joins a private key and its certificate.
func certified(private ssh.Signer, line string) (ssh.Signer, error) {
	public, err := publicKey(line)
	if err != nil {
		return nil, err
	}
	certificate, ok := public.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("a certificate was expected, not %s", public.Type())
	}
	return ssh.NewCertSigner(certificate, private)
}

func publicKey(line string) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	return key, err
}

// check judges signature, validity, critical options and principal as the deployed programs do, and the authority, which
// they only name to a checker that does not ask for it here: a test wants to know whether the right one has signed.
func check(certificate *ssh.Certificate, principal string, ca ssh.PublicKey) error {
	if !bytes.Equal(certificate.SignatureKey.Marshal(), ca.Marshal()) {
		return errors.New("another authority has signed")
	}
	return new(ssh.CertChecker).CheckCert(principal, certificate)
}
