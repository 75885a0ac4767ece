package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
)

// way is what a client holds: certificates of TLS 1 to the relay and of TLS 2 to the gateway behind
// it.
type way struct {
	Relay          string `json:"relay"`
	RelayLeaf      leaf   `json:"relayLeaf"`
	RelayAnchors   string `json:"relayAnchors"`
	GatewayLeaf    leaf   `json:"gatewayLeaf"`
	GatewayAnchors string `json:"gatewayAnchors"`
}

type leaf struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

func (l leaf) config(anchors, name string, newest uint16) (*tls.Config, error) {
	pair, err := tls.X509KeyPair([]byte(l.Certificate), []byte(l.Key))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(anchors)) {
		return nil, errors.New("no anchor")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
		ServerName:   name,
		MinVersion:   tls.VersionTLS12,
		MaxVersion:   newest,
	}, nil
}

// client sends what it was told to, reads to the end, and says what it had: "received <bytes>
// <end>".
func client(arguments []string) error {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	path := flags.String("way", "", "file with the certificates")
	host := flags.String("host", "", "the relay's host")
	send := flags.String("send", "", "what to send")
	halfClose := flags.Bool("half-close", false, "end our side before reading")
	leave := flags.Bool("exit", false, "exit without closing anything, instead of reading")
	reset := flags.Bool("reset", false, "reset the connection instead of reading")
	tls12 := flags.Bool("tls12", false, "no TLS 1.3")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	newest := uint16(tls.VersionTLS13)
	if *tls12 {
		newest = tls.VersionTLS12
	}
	text, err := os.ReadFile(*path)
	if err != nil {
		return err
	}
	var w way
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	outerConfig, err := w.RelayLeaf.config(w.RelayAnchors, *host, newest)
	if err != nil {
		return err
	}
	outer, err := tls.Dial("tcp", w.Relay, outerConfig)
	if err != nil {
		return err
	}
	innerConfig, err := w.GatewayLeaf.config(w.GatewayAnchors, "localhost", newest)
	if err != nil {
		return err
	}
	innerConfig.NextProtos = []string{"infisical-tcp-proxy"}
	inner := tls.Client(outer, innerConfig)
	if _, err := io.WriteString(inner, *send); err != nil {
		return err
	}
	if *leave {
		os.Exit(0)
	}
	if *reset {
		tcp := outer.NetConn().(*net.TCPConn)
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
		return tcp.Close()
	}
	if *halfClose {
		if err := inner.CloseWrite(); err != nil {
			return err
		}
	}
	buffer := make([]byte, 16*1024)
	received := 0
	fmt.Println("connected")
	for {
		n, err := inner.Read(buffer)
		received += n
		if n > 0 {
			fmt.Println("so far", received)
		}
		if err != nil {
			fmt.Println("received", received, err)
			break
		}
	}
	return inner.Close()
}
