//go:build !linux

package main

import "errors"

func mountSmallDisk(string, string) (unmount func() error, err error) {
	return nil, errors.New("only Linux mounts a small disk")
}
