package release

import "fmt"

// Reason says in one word why a release was refused. The set is closed: metrics are labelled by it.
type Reason string

const (
	ReasonUnsigned  Reason = "unsigned"  // signers are set, and the object has no frame
	ReasonFrame     Reason = "frame"     // the frame is damaged, doubled or too large
	ReasonSignature Reason = "signature" // too few trusted keys signed it
	ReasonMalformed Reason = "malformed" // signed, but not a manifest that can be followed
	ReasonRemote    Reason = "remote"    // for another remote
	ReasonSerial    Reason = "serial"    // older than the last accepted one, or from the future
	ReasonExpired   Reason = "expired"
	ReasonArchive   Reason = "archive" // the packed flake is not the one that was signed
	// ReasonNotPrebuilt: the host evaluates nothing, and the release has no system for it.
	ReasonNotPrebuilt Reason = "not_prebuilt"
	ReasonProgress    Reason = "progress" // its plan of waves has no progress that this host can follow
)

// Reasons are all of them.
var Reasons = []Reason{ReasonUnsigned, ReasonFrame, ReasonSignature, ReasonMalformed, ReasonRemote, ReasonSerial, ReasonExpired, ReasonArchive, ReasonNotPrebuilt, ReasonProgress}

// Refused is the error of a release that must not be used. Nothing of it was acted on.
type Refused struct {
	Reason Reason
	Text   string // a sentence for the operator
}

func (e *Refused) Error() string { return e.Text }

// ErrorCode tells refusals apart, as those of AWS are.
func (e *Refused) ErrorCode() string { return string(e.Reason) }

func refuse(r Reason, format string, args ...any) error {
	return &Refused{r, fmt.Sprintf(format, args...)}
}
