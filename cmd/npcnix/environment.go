package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// setByEnvironment marks flags that were set by the environment.
const setByEnvironment = "environment"

// variable is the environment variable that sets a flag.
func variable(flag string) string {
	return "NPCNIX_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets flags that were not given from NPCNIX_<FLAG>. A repeatable flag takes words
// separated by spaces.
func fromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		value := os.Getenv(variable(f.Name))
		if f.Changed || value == "" || f.Name == "help" || f.Name == "version" {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Fields(value)
		}
		for _, v := range values {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, usageError{fmt.Errorf("environment %s: %w", variable(f.Name), err)})
			}
		}
		_ = flags.SetAnnotation(f.Name, setByEnvironment, nil)
	})
	return errors.Join(errs...)
}

// joinOptions turns nix's `--option NAME VALUE`, which takes two words, into the one-word form
// that the flag parser knows.
func joinOptions(args []string) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(out, args[i:]...), nil
		case args[i] != "--option":
			out = append(out, args[i])
		case i+2 >= len(args):
			return nil, usageError{errors.New("--option takes two words, as nix's does: --option NAME VALUE")}
		case strings.HasPrefix(args[i+2], "--"):
			return nil, usageError{fmt.Errorf("--option takes NAME VALUE: %q looks like a flag", args[i+2])}
		default:
			out = append(out, "--option="+args[i+1]+"="+args[i+2])
			i += 2
		}
	}
	return out, nil
}
