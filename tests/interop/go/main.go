// Command go-peer plays the deployed gateway or the deployed relay, for the tests of the programs that must get along
// with them. It is built on the SSH library that those use, with the same settings, and does no more than they do.
//
// It prints one line "ready <address>" once it serves, tells on stderr what happens, and ends when its stdin does.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: go-peer relay|gateway|client|transfer [flags]")
	}
	role, arguments := os.Args[1], os.Args[2:]
	var err error
	switch role {
	case "relay":
		err = relay(arguments)
	case "gateway":
		err = gateway(arguments)
	case "client":
		err = client(arguments)
	case "transfer":
		err = transfer(arguments)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		log.Fatalf("%s: %v", role, err)
	}
}

// serve says that the peer is ready and returns nil when stdin ends, or the first failure.
func serve(addresses string, failed <-chan error) error {
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	fmt.Println("ready", addresses)
	select {
	case err := <-ended:
		return err
	case err := <-failed:
		return err
	}
}

// transport holds the flags that both roles have for the SSH transport layer.
type transport struct {
	kex, ciphers, macs string
	rekey              uint64
}

func (t *transport) register(flags *flag.FlagSet) {
	flags.StringVar(&t.kex, "kex", "", "key exchanges, comma-separated; the role's own if empty")
	flags.StringVar(&t.ciphers, "ciphers", "", "ciphers, likewise")
	flags.StringVar(&t.macs, "macs", "", "MACs, likewise")
	flags.Uint64Var(&t.rekey, "rekey", 0, "bytes after which keys are exchanged again; 0 is the library's limit")
}

// apply narrows config to what the flags name.
func (t *transport) apply(config *ssh.Config) {
	narrow := func(list *[]string, names string) {
		if names != "" {
			*list = strings.Split(names, ",")
		}
	}
	narrow(&config.KeyExchanges, t.kex)
	narrow(&config.Ciphers, t.ciphers)
	narrow(&config.MACs, t.macs)
	config.RekeyThreshold = t.rekey
}

// exchanges counts key exchanges, so that a test can see that keys were really exchanged again.
var exchanges atomic.Uint64

func exchanged() {
	log.Printf("key exchange %d", exchanges.Add(1))
}

// algorithms tells what was agreed on.
func algorithms(connection ssh.ConnMetadata) string {
	meta, ok := connection.(ssh.AlgorithmsConnMetadata)
	if !ok {
		return "unknown algorithms"
	}
	agreed := meta.Algorithms()
	return fmt.Sprintf("kex=%s host=%s read=%s/%s write=%s/%s", agreed.KeyExchange, agreed.HostKey,
		agreed.Read.Cipher, agreed.Read.MAC, agreed.Write.Cipher, agreed.Write.MAC)
}
