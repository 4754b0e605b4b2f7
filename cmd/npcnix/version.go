package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker if the build knows better than the build info.
var version = ""

func versionString() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}

func newVersionCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of npcnix",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return c.print("%s\n", versionString())
		},
	}
}
