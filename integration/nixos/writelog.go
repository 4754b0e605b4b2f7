package nixos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A log of writes as qemu's blklogwrites keeps it, which is that of the kernel's dm-log-writes (Documentation/
// admin-guide/device-mapper/log-writes.rst).
const (
	logMagic   = 0x6a736677736872
	logSector  = 512
	logFlush   = 1 << 0
	logFUA     = 1 << 1
	logDiscard = 1 << 2
	logMark    = 1 << 3
)

// write is one entry of a log.
type write struct {
	at, length int64 // on the disk, in bytes
	data       int64 // where it is in the log; 0 if it has none
	flags      uint64
}

// barrier tells whether what was written before is on the disk after w.
func (w write) barrier() bool { return w.flags&(logFlush|logFUA) != 0 }

// readLog reads a log to the end of what was written.
func readLog(log *os.File) ([]write, error) {
	head := make([]byte, logSector)
	if _, err := log.ReadAt(head, 0); err != nil {
		return nil, err
	}
	if magic := binary.LittleEndian.Uint64(head); magic != logMagic {
		return nil, fmt.Errorf("no log of writes: its magic is %x", magic)
	}
	if size := binary.LittleEndian.Uint32(head[24:]); size != logSector {
		return nil, fmt.Errorf("a log with sectors of %d bytes", size)
	}
	var writes []write
	for at := int64(logSector); ; {
		if _, err := log.ReadAt(head, at); errors.Is(err, io.EOF) {
			return writes, nil
		} else if err != nil {
			return nil, err
		}
		sector, sectors, flags := binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
		if sector == 0 && sectors == 0 && flags == 0 {
			return writes, nil
		}
		at += logSector
		w := write{at: int64(sector) * logSector, length: int64(sectors) * logSector, flags: flags}
		if flags&(logDiscard|logMark) == 0 && w.length > 0 {
			w.data = at
			at += w.length
		}
		writes = append(writes, w)
	}
}

// apply makes a write of a log on a disk.
func (w write) apply(disk, log *os.File) error {
	if w.data == 0 {
		return nil
	}
	data := make([]byte, w.length)
	if _, err := log.ReadAt(data, w.data); err != nil {
		return err
	}
	_, err := disk.WriteAt(data, w.at)
	return err
}
