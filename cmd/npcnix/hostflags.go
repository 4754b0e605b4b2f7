package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// hostFlags are the flags of commands that build and activate.
type hostFlags struct {
	profile, currentSystem string
	substituters, keys     []string
	options                []string
}

func (h *hostFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&h.profile, "profile", "/nix/var/nix/profiles/system", "profile whose generations are the host's systems")
	flags.StringArrayVar(&h.substituters, "extra-substituters", nil, "binary cache in addition to those of nix.conf (repeatable)")
	flags.StringArrayVar(&h.keys, "extra-trusted-public-keys", nil, "trusted key in addition to those of nix.conf (repeatable)")
	flags.StringArrayVar(&h.options, "option", nil, "option for nix, as two words: --option NAME VALUE (repeatable)")
	h.addCurrentSystem(flags)
}

// addCurrentSystem adds the one flag of commands that only look at the host.
func (h *hostFlags) addCurrentSystem(flags *pflag.FlagSet) {
	flags.StringVar(&h.currentSystem, "current-system", "/run/current-system", "link to the running system (for containers and tests)")
}

// host returns the host that the flags describe.
func (h *hostFlags) host(c *common) (*activation.Coordinator, error) {
	o := nix.Options{
		Profile: h.profile, CurrentSystem: h.currentSystem, Dir: c.dataDir,
		Substituters: h.substituters, PublicKeys: h.keys, Log: c.log,
	}
	for _, option := range h.options {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--option is %q: it must be --option NAME VALUE", option)}
		}
		o.Settings = append(o.Settings, [2]string{name, value})
	}
	host, err := nix.New(o)
	if err != nil {
		return nil, usageError{err}
	}
	return activation.New(host)
}
