package config

import (
	"fmt"
	"time"
)

// Pause is the operator's wish that nothing be changed: for ever, or until a time.
type Pause struct {
	Type  string    `json:"type"` // Indefinitely or Until
	Until time.Time `json:"until,omitzero"`
}

// The types of a pause.
const (
	Indefinitely = "indefinitely"
	Until        = "until"
)

// Active reports whether the pause holds at now. A nil pause does not.
func (p *Pause) Active(now time.Time) bool {
	return p != nil && (p.Type == Indefinitely || now.Before(p.Until))
}

func (p *Pause) String() string {
	switch {
	case p == nil:
		return "not paused"
	case p.Type == Indefinitely:
		return "paused (indefinitely)"
	default:
		return "paused (until " + p.Until.UTC().Format(time.RFC3339) + ")"
	}
}

// Extend returns the longer of p and a pause until the given time; a zero time stands for ever.
func (p *Pause) Extend(until, now time.Time) *Pause {
	switch {
	case until.IsZero(), p.Active(now) && p.Type == Indefinitely:
		return &Pause{Type: Indefinitely}
	case p.Active(now) && p.Until.After(until):
		return p
	default:
		return &Pause{Type: Until, Until: until.UTC().Truncate(time.Second)}
	}
}

func (p *Pause) validate() error {
	if p != nil && p.Type != Indefinitely && p.Type != Until {
		return fmt.Errorf("paused.type is %q: it must be %q or %q", p.Type, Indefinitely, Until)
	}
	return nil
}
