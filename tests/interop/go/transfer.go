package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// piece is what io.Copy reads and writes at once.
const piece = 32 * 1024

// transfer moves bytes over several streams at once, for the bench. It prints "ready" once all
// streams are open, begins when a line comes on stdin, and prints "seconds <time>" at the end.
func transfer(arguments []string) error {
	flags := flag.NewFlagSet("transfer", flag.ExitOnError)
	path := flags.String("way", "", "file with the certificates; plain TCP without it")
	address := flags.String("to", "", "the relay, or what forwards plain TCP")
	streams := flags.Int("streams", 1, "streams at once")
	total := flags.Uint64("bytes", 0, "bytes of all streams together")
	upload := flags.Bool("upload", false, "send instead of receiving")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	dial, err := dialer(*path, *address)
	if err != nil {
		return err
	}
	open := make([]stream, *streams)
	for i := range open {
		if open[i], err = dial(); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	begin := time.Now()
	ended := make(chan error, len(open))
	share := *total / uint64(*streams)
	for _, one := range open {
		go func() {
			if *upload {
				ended <- send(one, share)
			} else {
				ended <- receive(one, share)
			}
		}()
	}
	for range open {
		if err := <-ended; err != nil {
			return err
		}
	}
	fmt.Println("seconds", time.Since(begin).Seconds())
	return nil
}

// stream is a TCP connection or TLS, of which either side may end first.
type stream interface {
	net.Conn
	CloseWrite() error
}

// dialer opens streams to the target: TLS in TLS with the certificates in path, or plain TCP.
func dialer(path, address string) (func() (stream, error), error) {
	plain := func() (*net.TCPConn, error) {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		return connection.(*net.TCPConn), nil
	}
	if path == "" {
		return func() (stream, error) { return plain() }, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var w way
	if err := json.Unmarshal(text, &w); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	outerConfig, err := w.RelayLeaf.config(w.RelayAnchors, host, tls.VersionTLS13)
	if err != nil {
		return nil, err
	}
	innerConfig, err := w.GatewayLeaf.config(w.GatewayAnchors, "localhost", tls.VersionTLS13)
	if err != nil {
		return nil, err
	}
	innerConfig.NextProtos = []string{"infisical-tcp-proxy"}
	return func() (stream, error) {
		connection, err := plain()
		if err != nil {
			return nil, err
		}
		inner := tls.Client(tls.Client(connection, outerConfig), innerConfig)
		return inner, inner.Handshake()
	}, nil
}

// ask tells the bench's target what to do: 0 is to send so many bytes, 1 to count what comes.
func ask(to io.Writer, what byte, bytes uint64) error {
	_, err := to.Write(binary.BigEndian.AppendUint64([]byte{what}, bytes))
	return err
}

// discard takes everything; io.Discard would read with a buffer of its own size.
type discard struct{}

func (discard) Write(block []byte) (int, error) { return len(block), nil }

func receive(from stream, bytes uint64) error {
	if err := ask(from, 0, bytes); err != nil {
		return err
	}
	received, err := io.CopyBuffer(discard{}, from, make([]byte, piece))
	if err == nil && uint64(received) != bytes {
		err = fmt.Errorf("%d of %d bytes came", received, bytes)
	}
	return err
}

func send(to stream, bytes uint64) error {
	if err := ask(to, 1, 0); err != nil {
		return err
	}
	block := make([]byte, piece)
	for left := bytes; left > 0; {
		count := min(left, piece)
		if _, err := to.Write(block[:count]); err != nil {
			return err
		}
		left -= count
	}
	if err := to.CloseWrite(); err != nil {
		return err
	}
	var answer uint64
	if err := binary.Read(to, binary.BigEndian, &answer); err != nil {
		return err
	}
	if answer != bytes {
		return errors.New("the target counted other bytes")
	}
	return nil
}
