package main

import "golang.org/x/sys/unix"

// mountSmallDisk mounts an empty file system in memory. What unmounts it does so whoever still uses it.
func mountSmallDisk(dir, size string) (unmount func() error, err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		return nil, err
	}
	return func() error {
		err := unix.Unmount(dir, 0)
		if err != nil {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
		return err
	}, nil
}
