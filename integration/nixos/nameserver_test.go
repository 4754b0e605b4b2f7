package nixos

import (
	"crypto/rand"
	"net"
	"net/netip"
	"testing"

	"github.com/npcnix/npcnix/integration/machine"
)

// nameserver serves the test, and the machine that shares its network, as a resolver on the port that resolv.conf
// knows alone. Every name has the address 127.0.0.1. It returns its own address.
func nameserver(t *testing.T) string {
	t.Helper()
	at := [4]byte{127}
	_, _ = rand.Read(at[1:]) // others may have servers too
	at[3] |= 2
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(at), 53)))
	if err != nil {
		machine.Lacks(t, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		query := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			if reply := answer(query[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return netip.AddrFrom4(at).String()
}

// answer answers a query of DNS that has one question (RFC 1035, 4.1); nil for another one.
func answer(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the name's end, the type and the class
	if end > len(query) || query[4] != 0 || query[5] != 1 {
		return nil
	}
	reply := append([]byte{}, query[:end]...)
	copy(reply[2:12], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if isA := query[end-3] == 1; isA {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
	}
	return reply
}
