package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// The common name of a platform that only wants to know whether the relay is there.
	healthCheck = "00000000-0000-0000-0000-000000000000"
	// How long a client may take for TLS 1.
	clientHandshake = 5 * time.Second
	maxAuthTries    = 3
)

// relayPeer is the deployed relay: gateways come by SSH, clients by TLS 1.
type relayPeer struct {
	name   string
	userCA ssh.PublicKey
	ssh    *ssh.ServerConfig
	tls    *tls.Config

	mutex   sync.Mutex
	tunnels map[string]*ssh.ServerConn
}

func relay(arguments []string) error {
	flags := flag.NewFlagSet("relay", flag.ExitOnError)
	path := flags.String("credentials", "", "file with the platform's answer to the registration")
	name := flags.String("name", "", "the relay's name")
	sshListen := flags.String("ssh-listen", "", "address for gateways")
	tlsListen := flags.String("tls-listen", "", "address for clients")
	var limits transport
	limits.register(flags)
	// ExitOnError: it does not return one.
	_ = flags.Parse(arguments)

	issued, err := load(*path)
	if err != nil {
		return err
	}
	peer := &relayPeer{name: *name, tunnels: make(map[string]*ssh.ServerConn)}
	if peer.userCA, err = publicKey(issued.SSH.ClientCAPublicKey); err != nil {
		return fmt.Errorf("user CA: %w", err)
	}
	if peer.tls, err = issued.tls(nil); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	hostKey, err := issued.hostKey()
	if err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	peer.ssh = &ssh.ServerConfig{MaxAuthTries: maxAuthTries, PublicKeyCallback: peer.admit}
	limits.apply(&peer.ssh.Config)
	peer.ssh.AddHostKey(hostKey)

	failed := make(chan error, 2)
	gateways, err := listen(*sshListen, peer.serveGateway, failed)
	if err != nil {
		return err
	}
	clients, err := listen(*tlsListen, peer.serveClient, failed)
	if err != nil {
		return err
	}
	return serve(fmt.Sprintf("%s %s", gateways, clients), failed)
}

// listen hands each connection to handle, which owns it.
func listen(address string, handle func(net.Conn), failed chan<- error) (net.Addr, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				failed <- err
				return
			}
			go handle(connection)
		}
	}()
	return listener.Addr(), nil
}

// countingKey tells of each signature: a server makes one with its host key in each key exchange.
type countingKey struct{ ssh.MultiAlgorithmSigner }

func (k countingKey) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	exchanged()
	return k.MultiAlgorithmSigner.SignWithAlgorithm(random, data, algorithm)
}

func (c *credentials) hostKey() (ssh.Signer, error) {
	private, err := ssh.ParsePrivateKey([]byte(c.SSH.ServerPrivateKey))
	if err != nil {
		return nil, err
	}
	multi, ok := private.(ssh.MultiAlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("%T signs in one way only", private)
	}
	return certified(countingKey{multi}, c.SSH.ServerCertificate)
}

// admit says whether a gateway may come in, and under which id.
func (p *relayPeer) admit(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	certificate, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("a raw public key is not enough")
	}
	if certificate.CertType != ssh.UserCert {
		return nil, errors.New("not a user certificate")
	}
	if err := check(certificate, meta.User(), p.userCA); err != nil {
		return nil, err
	}
	if len(certificate.ValidPrincipals) == 0 || certificate.ValidPrincipals[0] == "" {
		return nil, errors.New("no gateway id")
	}
	if certificate.KeyId != "client-"+p.name {
		return nil, fmt.Errorf("key id %q is for another relay", certificate.KeyId)
	}
	id := certificate.ValidPrincipals[0]
	return &ssh.Permissions{Extensions: map[string]string{"gateway-id": id}}, nil
}

func (p *relayPeer) serveGateway(tcp net.Conn) {
	defer tcp.Close()
	connection, channels, requests, err := ssh.NewServerConn(tcp, p.ssh)
	if err != nil {
		log.Printf("SSH handshake failed: %v", err)
		return
	}
	id := connection.Permissions.Extensions["gateway-id"]
	p.mutex.Lock()
	_, taken := p.tunnels[id]
	if !taken {
		p.tunnels[id] = connection
	}
	p.mutex.Unlock()
	if taken {
		log.Printf("second connection of %s closed", id)
		connection.Close()
		return
	}
	log.Printf("tunnel of %s opened, %s", id, algorithms(connection.Conn))

	go func() {
		for request := range requests {
			log.Printf("global request %s refused", request.Type)
			if request.WantReply {
				// A broken connection ends the loop below.
				_ = request.Reply(false, nil)
			}
		}
	}()
	for channel := range channels {
		log.Printf("channel %s refused", channel.ChannelType())
		reason := ssh.UnknownChannelType
		switch channel.ChannelType() {
		case "session", "x11", "auth-agent", "forwarded-tcpip":
			reason = ssh.Prohibited
		}
		_ = channel.Reject(reason, "not from a gateway")
	}

	p.mutex.Lock()
	delete(p.tunnels, id)
	p.mutex.Unlock()
	log.Printf("tunnel of %s closed", id)
}

func (p *relayPeer) serveClient(tcp net.Conn) {
	defer tcp.Close()
	client := tls.Server(tcp, p.tls)
	defer client.Close()
	// A connection that is gone already fails in the handshake.
	_ = client.SetDeadline(time.Now().Add(clientHandshake))
	if err := client.Handshake(); err != nil {
		log.Printf("TLS 1 failed: %v", err)
		return
	}
	_ = client.SetDeadline(time.Time{})
	id := client.ConnectionState().PeerCertificates[0].Subject.CommonName
	if id == healthCheck {
		log.Print("health check")
		return
	}

	p.mutex.Lock()
	tunnel := p.tunnels[id]
	p.mutex.Unlock()
	if tunnel == nil {
		log.Printf("no tunnel of %s", id)
		return
	}
	// No data of the type (RFC 4254 §7.2 has four fields), and no one takes the channel's requests: so it is deployed.
	channel, _, err := tunnel.OpenChannel("direct-tcpip", nil)
	if err != nil {
		log.Printf("channel to %s failed: %v", id, err)
		return
	}
	defer channel.Close()
	go func() {
		_, err := io.Copy(channel, client)
		log.Printf("client's side ended: %v", err)
		// The channel may be closed by now.
		_ = channel.CloseWrite()
	}()
	// The gateway's end is the end of all.
	_, err = io.Copy(client, channel)
	log.Printf("gateway's side ended: %v", err)
}
