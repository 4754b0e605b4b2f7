package verify

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/npcnix/npcnix/agent/command"
	"github.com/npcnix/npcnix/agent/config"
)

// bodyRead bounds what is read of an answer, in bytes.
const bodyRead = 1 << 20

// try tries the check once.
func try(ctx context.Context, c config.Check) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout())
	defer cancel()

	switch {
	case c.HTTP != "":
		return get(ctx, c.HTTP)
	case c.TCP != "":
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.TCP)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	_, err := command.Run(ctx, c.Command, command.Environment(true))

	return err
}

// get asks on a connection of its own, because an old one says nothing about the new system.
func get(ctx context.Context, url string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, bodyRead))
	_ = answer.Body.Close() // nothing was written

	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("it answers %s", answer.Status)
	}

	return nil
}
