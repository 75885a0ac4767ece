package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// Where a client's certificate says what it wants to reach.
	routing = "1.3.6.1.4.1.12345.100.1"
	// Limit for the connection and the SSH handshake.
	dialTimeout = 30 * time.Second
	// How long the answer to a keepalive may take.
	keepaliveTimeout = 15 * time.Second
	// Seconds between the heartbeats of a deployed gateway.
	heartbeatTTL = 180
)

// gatewayPeer is the deployed gateway: it dials the relay, which opens one channel for each client.
type gatewayPeer struct {
	tls       *tls.Config
	halfClose bool
}

func gateway(arguments []string) error {
	flags := flag.NewFlagSet("gateway", flag.ExitOnError)
	path := flags.String("credentials", "", "file with the platform's answer to the registration")
	address := flags.String("relay", "", "the relay's address; its host certificate must have it as principal")
	keepalive := flags.Duration("keepalive", 30*time.Second, "time between two keepalives")
	halfClose := flags.Bool("half-close", false,
		"go on after the first end of a stream; deployed gateways close both directions then")
	var limits transport
	limits.register(flags)
	// ExitOnError: it does not return one.
	_ = flags.Parse(arguments)

	issued, err := load(*path)
	if err != nil {
		return err
	}
	peer := &gatewayPeer{halfClose: *halfClose}
	if peer.tls, err = issued.tls([]string{"infisical-tcp-proxy", "infisical-ping", "infisical-health"}); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	config, err := issued.client()
	if err != nil {
		return err
	}
	limits.apply(&config.Config)
	tunnel, err := ssh.Dial("tcp", *address, config)
	if err != nil {
		return err
	}
	log.Printf("tunnel opened, %s", algorithms(tunnel.Conn))
	channels := tunnel.HandleChannelOpen("direct-tcpip")
	go keepalives(tunnel, *keepalive)
	failed := make(chan error, 1)
	go func() {
		for channel := range channels {
			go peer.serveChannel(channel)
		}
		failed <- errors.New("the relay closed the tunnel")
	}()
	return serve(tunnel.LocalAddr().String(), failed)
}

// client is the configuration of the deployed gateway, which offers these old algorithms and no others.
func (c *credentials) client() (*ssh.ClientConfig, error) {
	private, err := ssh.ParsePrivateKey([]byte(c.SSH.ClientPrivateKey))
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, err := certified(private, c.SSH.ClientCertificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	hostCA, err := publicKey(c.SSH.ServerCAPublicKey)
	if err != nil {
		return nil, fmt.Errorf("host CA: %w", err)
	}
	config := &ssh.ClientConfig{
		User:            c.GatewayID,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: hostCheck(hostCA),
		Timeout:         dialTimeout,
	}
	config.KeyExchanges = []string{
		ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDH16SHA512, "diffie-hellman-group18-sha512",
	}
	config.Ciphers = []string{ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR}
	config.MACs = []string{ssh.HMACSHA256, ssh.HMACSHA512}
	return config, nil
}

// hostCheck judges the relay in each key exchange.
func hostCheck(ca ssh.PublicKey) ssh.HostKeyCallback {
	return func(address string, _ net.Addr, key ssh.PublicKey) error {
		exchanged()
		certificate, ok := key.(*ssh.Certificate)
		if !ok {
			return errors.New("a raw host key is not enough")
		}
		return check(certificate, address, ca)
	}
}

// keepalives ends the tunnel when the relay does not answer; a refusal is an answer.
func keepalives(tunnel *ssh.Client, interval time.Duration) {
	for range time.Tick(interval) {
		answer := make(chan error, 1)
		go func() {
			_, _, err := tunnel.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		var err error
		select {
		case err = <-answer:
		case <-time.After(keepaliveTimeout):
			err = errors.New("no answer")
		}
		if err != nil {
			log.Printf("keepalive failed: %v", err)
			tunnel.Close()
			return
		}
		log.Print("keepalive answered")
	}
}

// channelConn lets TLS run on a channel, which knows no addresses and no deadlines.
type channelConn struct {
	ssh.Channel
	net.Conn // Always nil: no one calls what is left to it.
}

func (c channelConn) Read(block []byte) (int, error)   { return c.Channel.Read(block) }
func (c channelConn) Write(block []byte) (int, error)  { return c.Channel.Write(block) }
func (c channelConn) Close() error                     { return c.Channel.Close() }
func (c channelConn) SetDeadline(time.Time) error      { return nil }
func (c channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c channelConn) SetWriteDeadline(time.Time) error { return nil }

func (p *gatewayPeer) serveChannel(offered ssh.NewChannel) {
	// What the channel is for is in the client's certificate: the data of the type is not looked at.
	channel, requests, err := offered.Accept()
	if err != nil {
		log.Printf("channel not taken: %v", err)
		return
	}
	defer channel.Close()
	go ssh.DiscardRequests(requests)
	client := tls.Server(channelConn{Channel: channel}, p.tls)
	if err := client.Handshake(); err != nil {
		log.Printf("TLS 2 failed: %v", err)
		return
	}
	// Whatever comes of it, TLS 2 ends in order: so it is deployed.
	defer client.Close()
	switch service := client.ConnectionState().NegotiatedProtocol; service {
	case "infisical-ping":
		_, err = io.WriteString(client, "PONG\n")
	case "infisical-health":
		_, err = fmt.Fprintf(client, "{\"status\":\"ok\",\"heartbeatTTL\":%d}\n", heartbeatTTL)
	case "infisical-tcp-proxy":
		err = p.proxy(client)
	default:
		err = fmt.Errorf("no service %q", service)
	}
	log.Printf("channel ended: %v", err)
}

// target reads where the client's certificate leads to.
func target(client *tls.Conn) (string, error) {
	for _, extension := range client.ConnectionState().PeerCertificates[0].Extensions {
		if extension.Id.String() != routing {
			continue
		}
		var route struct {
			TargetHost string `json:"targetHost"`
			TargetPort int    `json:"targetPort"`
		}
		err := json.Unmarshal(extension.Value, &route)
		return fmt.Sprintf("%s:%d", route.TargetHost, route.TargetPort), err
	}
	return "", errors.New("no route in the certificate")
}

func (p *gatewayPeer) proxy(client *tls.Conn) error {
	address, err := target(client)
	if err != nil {
		return err
	}
	dialled, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer dialled.Close()
	service := dialled.(*net.TCPConn)
	ends := make(chan error, 2)
	go func() {
		_, err := io.Copy(service, client)
		if p.halfClose {
			err = errors.Join(err, service.CloseWrite())
		}
		ends <- err
	}()
	go func() {
		_, err := io.Copy(client, service)
		if p.halfClose {
			err = errors.Join(err, client.CloseWrite())
		}
		ends <- err
	}()
	err = <-ends
	if p.halfClose {
		err = errors.Join(err, <-ends)
	}
	return err
}
