package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix/jsonfile"
)

// Check is one of the operator's own conditions for a new system: a command that ends with 0, a URL
// that answers with a status below 400, or an address that takes a connection.
type Check struct {
	Name        string   `json:"name,omitempty"`
	Command     []string `json:"command,omitempty"` // a program and its arguments
	HTTP        string   `json:"http,omitempty"`
	TCP         string   `json:"tcp,omitempty"`          // HOST:PORT
	TimeoutSecs int64    `json:"timeout_secs,omitempty"` // of one try; default 10

	rest jsonfile.Unknown
}

func (c *Check) UnmarshalJSON(data []byte) error {
	type plain Check
	var p plain
	rest, err := jsonfile.Decode(data, &p)
	*c = Check(p)
	c.rest = rest
	return err
}

func (c Check) MarshalJSON() ([]byte, error) {
	type plain Check
	return jsonfile.Encode(plain(c), c.rest)
}

const defaultCheckTimeout = 10 * time.Second

// Timeout is how long one try may take.
func (c Check) Timeout() time.Duration {
	if c.TimeoutSecs == 0 {
		return defaultCheckTimeout
	}
	return seconds(c.TimeoutSecs)
}

func (c Check) String() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.HTTP != "":
		return c.HTTP
	case c.TCP != "":
		return c.TCP
	}
	return strings.Join(c.Command, " ")
}

func (c Check) validate() error {
	kinds := 0
	for _, given := range []bool{len(c.Command) > 0, c.HTTP != "", c.TCP != ""} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("give one of command, http and tcp")
	}
	if c.TimeoutSecs < 0 || c.TimeoutSecs > aYear {
		return fmt.Errorf("timeout_secs is %d: it must be from 0 to %d", c.TimeoutSecs, aYear)
	}
	if c.HTTP != "" {
		if u, err := url.Parse(c.HTTP); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("http is %q: want http://HOST/PATH or https://HOST/PATH", c.HTTP)
		}
	}
	if c.TCP != "" {
		if _, port, err := net.SplitHostPort(c.TCP); err != nil || port == "" {
			return fmt.Errorf("tcp is %q: want HOST:PORT", c.TCP)
		}
	}
	return nil
}
