package awsfake

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// algorithms are the checksums that S3 knows, by the ending of their X-Amz-Checksum- header.
var algorithms = map[string]func() hash.Hash{
	"Crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"Crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"Crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
	"Sha1":      sha1.New,
	"Sha256":    sha256.New,
}

// checksum is what the writer of an object said its checksum is, and what was found true.
type checksum struct {
	algorithm string // a key of algorithms, empty without a checksum
	value     string // base64; of a multipart object with "-parts" at its end
	kind      string // FULL_OBJECT or COMPOSITE
}

// on puts the checksum on an answer.
func (sum checksum) on(a *answer) *answer {
	if sum.algorithm == "" {
		return a
	}
	return a.with("X-Amz-Checksum-"+sum.algorithm, sum.value).with("X-Amz-Checksum-Type", sum.kind)
}

// payload is what the request's body carries, out of its aws-chunked wrapping where it has one, after all
// checksums that came with it were found right.
func (r *request) payload() ([]byte, checksum, error) {
	body, said := r.body, r.Header
	digest := r.Header.Get("X-Amz-Content-Sha256")
	if strings.HasPrefix(digest, "STREAMING-") {
		var err error
		var trailer http.Header
		if body, trailer, err = dechunk(r.body); err != nil {
			return nil, checksum{}, refuse(http.StatusBadRequest, "InvalidRequest", "aws-chunked body: %v", err)
		}
		if size := r.Header.Get("X-Amz-Decoded-Content-Length"); size != strconv.Itoa(len(body)) {
			return nil, checksum{}, refuse(http.StatusBadRequest, "IncompleteBody", "%d bytes came instead of %s", len(body), size)
		}
		said = r.Header.Clone()
		for name, values := range trailer {
			said[name] = values
		}
	} else if len(digest) == 2*sha256.Size {
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != digest {
			return nil, checksum{}, refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch",
				"The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
	}
	if want := said.Get("Content-Md5"); want != "" && want != digestOf(md5.New(), body) {
		return nil, checksum{}, refuse(http.StatusBadRequest, "BadDigest", "The Content-MD5 you specified did not match what we received.")
	}
	for algorithm, newHash := range algorithms {
		want := said.Get("X-Amz-Checksum-" + algorithm)
		if want == "" {
			continue
		}
		if want != digestOf(newHash(), body) {
			return nil, checksum{}, refuse(http.StatusBadRequest, "BadDigest",
				"The %s you specified did not match the calculated checksum.", strings.ToUpper(algorithm))
		}
		return body, checksum{algorithm, want, "FULL_OBJECT"}, nil // a request carries one at most
	}
	return body, checksum{}, nil
}

func digestOf(h hash.Hash, body []byte) string {
	_, _ = h.Write(body) // never fails
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// dechunk decodes aws-chunked: chunks of "size[;chunk-signature=…]\r\n" data "\r\n", the last one empty,
// then trailing headers.
func dechunk(raw []byte) (body []byte, trailer http.Header, err error) {
	in := bufio.NewReader(bytes.NewReader(raw))
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, nil, fmt.Errorf("read chunk size: %w", err)
		}
		text, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, err := strconv.ParseUint(text, 16, 31)
		if err != nil {
			return nil, nil, fmt.Errorf("read chunk size: %w", err)
		}
		if size == 0 {
			break
		}
		if size > uint64(len(raw)) {
			return nil, nil, fmt.Errorf("chunk of %d bytes in a body of %d", size, len(raw))
		}
		from := len(body)
		body = append(body, make([]byte, size+2)...)
		if _, err := io.ReadFull(in, body[from:]); err != nil {
			return nil, nil, fmt.Errorf("read chunk: %w", err)
		}
		if !bytes.HasSuffix(body, []byte("\r\n")) {
			return nil, nil, errors.New("chunk without its end")
		}
		body = body[:len(body)-2]
	}
	header, err := textproto.NewReader(in).ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("read trailer: %w", err)
	}
	return body, http.Header(header), nil
}
