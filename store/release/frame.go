package release

import (
	"bytes"
	"encoding/binary"

	"github.com/go-json-experiment/json"
)

const (
	// MaxPayload bounds the payload of a frame, in bytes.
	MaxPayload = 4 << 20
	// FooterLen is how many of a frame's last bytes tell its size.
	FooterLen = 4 + len(footer)
	// Tail is how many of an object's last bytes to ask for first: they hold the frame of a release
	// with about 230 systems.
	Tail = 64 << 10

	frameMagic    = 0x184D2A5B // one of RFC 8878's sixteen for skippable frames
	headerLen     = 8          // magic, length of the payload
	footer        = "NPCNIX01"
	footerLen     = FooterLen
	maxSignatures = 16
)

// Frame is what follows the packed flake in an object.
type Frame struct {
	// Manifest is the exact bytes that Signatures, armoured SSHSIG, were made for.
	Manifest   []byte   `json:"manifest"`
	Signatures []string `json:"signatures"`
	// Progress of the manifest's plan, signed apart from it.
	Progress           []byte   `json:"progress,omitempty"`
	ProgressSignatures []string `json:"progress_signatures,omitempty"`
}

// Encode returns the bytes to append to the packed flake.
func (f Frame) Encode() ([]byte, error) {
	if f.Signatures == nil {
		f.Signatures = []string{}
	}
	if err := f.validate(); err != nil {
		return nil, err
	}

	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if len(text)+footerLen > MaxPayload {
		return nil, refuse(ReasonFrame, "the manifest and its signatures take %d bytes: a release may have %d", len(text), MaxPayload-footerLen)
	}

	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, []uint32{frameMagic, uint32(len(text) + footerLen)})
	b.Write(text)
	_ = binary.Write(&b, binary.LittleEndian, uint32(len(text)))
	b.WriteString(footer)

	return b.Bytes(), nil
}

// FrameSize returns how many bytes the frame takes at the end of an object whose last bytes are tail;
// 0 where the object ends in no frame. It needs 12 bytes. The size is what the frame says of itself, and
// may be a lie; it is at most [MaxPayload] and a header, or an error.
func FrameSize(tail []byte) (int, error) {
	if !bytes.HasSuffix(tail, []byte(footer)) || len(tail) < footerLen {
		return 0, nil
	}

	text := binary.LittleEndian.Uint32(tail[len(tail)-footerLen:])
	if text > uint32(MaxPayload-footerLen) {
		return 0, refuse(ReasonFrame, "the frame at the end of the object says that it has %d bytes: at most %d are allowed", text, MaxPayload-footerLen)
	}

	return headerLen + int(text) + footerLen, nil
}

// ParseFrame reads the frame at the end of an object whose last bytes are tail, which must be the whole
// object or hold [FrameSize] bytes and 12 more. It returns nil where there is no frame.
func ParseFrame(tail []byte) (*Frame, error) {
	size, err := FrameSize(tail)
	if err == nil && size == 0 && cutOff(tail) {
		err = refuse(ReasonFrame, "the object ends in the middle of a release's frame: a part of it was lost on the way, publish it again")
	}
	if err != nil || size == 0 {
		return nil, err
	}
	if size > len(tail) {
		return nil, refuse(ReasonFrame, "the frame at the end of the object says that it is longer than the object")
	}

	archive, frame := tail[:len(tail)-size], tail[len(tail)-size:]
	if binary.LittleEndian.Uint32(frame) != frameMagic || int(binary.LittleEndian.Uint32(frame[4:])) != size-headerLen {
		return nil, refuse(ReasonFrame, "the object ends like a release, but the frame does not begin where its end says")
	}
	if bytes.HasSuffix(archive, []byte(footer)) {
		return nil, refuse(ReasonFrame, "the object ends in two frames: publish the packed flake again")
	}

	var f Frame
	text := frame[headerLen : size-footerLen]
	if err := json.Unmarshal(text, &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, refuse(ReasonFrame, "the frame at the end of the object is malformed: %v", err)
	}

	return &f, f.validate()
}

// cutOff reports whether the object ends within a frame: after a header, all is JSON, but for a part of the footer.
func cutOff(tail []byte) bool {
	at := bytes.LastIndex(tail, binary.LittleEndian.AppendUint32(nil, frameMagic))
	if at < 0 || len(tail)-at <= headerLen {
		return false
	}
	payload := tail[at+headerLen:]
	text := payload[:max(0, len(payload)-footerLen)]

	return int64(len(payload)) < int64(binary.LittleEndian.Uint32(tail[at+4:])) && bytes.HasPrefix(payload, []byte(`{"manifest":"`)) &&
		!bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

func (f *Frame) validate() error {
	switch {
	case len(f.Manifest) == 0:
		return refuse(ReasonFrame, "the frame holds no manifest")
	case len(f.Signatures) > maxSignatures || len(f.ProgressSignatures) > maxSignatures:
		return refuse(ReasonFrame, "the frame holds more than %d signatures", maxSignatures)
	case len(f.Progress) == 0 && len(f.ProgressSignatures) > 0:
		return refuse(ReasonFrame, "the frame holds signatures of a progress that it does not hold")
	}

	return nil
}
