package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

// maxRecord bounds an acknowledgement record that is read, in bytes. Records
// hold a host's state and the tail of a log.
const maxRecord = 1 << 20

// PutRecord stores a host's acknowledgement record beside the object, as
// <remote>.acks/<host>.json. The name must serve as one path element.
func (r *Remote) PutRecord(ctx context.Context, host string, body []byte) error {
	suffix, err := recordSuffix(host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	if _, err := r.backend.put(ctx, suffix, bytes.NewReader(body), int64(len(body))); err != nil {
		return fmt.Errorf("put record of %s: %w", host, err)
	}
	return nil
}

// GetRecord returns a host's acknowledgement record, or ErrNotFound when the
// host has not been heard.
func (r *Remote) GetRecord(ctx context.Context, host string) ([]byte, error) {
	suffix, err := recordSuffix(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	body, _, err := r.backend.get(ctx, suffix, Version{})
	if err != nil {
		return nil, fmt.Errorf("get record of %s: %w", host, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("get record of %s: %w", host, err)
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("get record of %s: more than %d bytes: not a record", host, maxRecord)
	}
	return b, nil
}

// CheckHost returns an error when the name cannot name a record.
func CheckHost(name string) error {
	_, err := recordSuffix(name)
	return err
}

func recordSuffix(host string) (string, error) {
	bad := func(r rune) bool { return r == '/' || r == '\\' || r < ' ' || r == 0x7f }
	if host == "" || host == "." || host == ".." || len(host) > 200 || strings.ContainsFunc(host, bad) {
		return "", fmt.Errorf("host name %q cannot name a record: want 1 to 200 characters without slashes", host)
	}
	return ".acks/" + host + ".json", nil
}
