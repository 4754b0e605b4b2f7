package fleet

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/npcnix/npcnix/store"
)

// Need is how many of the expected hosts must run the version: a number or a share. The zero
// value is all of them.
type Need struct {
	n       int
	percent float64
}

// ParseNeed reads "N" or "N%".
func ParseNeed(text string) (Need, error) {
	bad := fmt.Errorf("%q is neither a number of hosts nor a percentage: want N or N%%, more than 0", text)
	if share, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p > 0 && p <= 100) {
			return Need{}, bad
		}
		return Need{percent: p}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return Need{}, bad
	}
	return Need{n: n}, nil
}

// of is how many of the hosts are needed; a share is rounded up.
func (n Need) of(hosts int) (int, error) {
	switch {
	case n.percent > 0:
		need := int(n.percent * float64(hosts) / 100)
		if float64(need) < n.percent*float64(hosts)/100 {
			need++
		}
		return max(1, need), nil // the product of a tiny share may be 0
	case n.n > hosts:
		return 0, fmt.Errorf("%w: %d must run it, but only %d are expected", ErrHosts, n.n, hosts)
	case n.n > 0:
		return n.n, nil
	}
	return hosts, nil
}

// ReadHosts reads host names, one on a line; empty lines and what follows a # are omitted.
func ReadHosts(in io.Reader) ([]string, error) {
	var hosts []string
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		host := strings.TrimSpace(text)
		if host == "" {
			continue
		}
		if strings.ContainsAny(host, " \t") {
			return nil, fmt.Errorf("line %d: %q is not one host name", n, host)
		}
		if err := store.CheckHost(host); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		hosts = append(hosts, host)
	}
	return hosts, lines.Err()
}
