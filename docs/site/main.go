// Command site makes the documentation as a web site: the pages of the repository, in the order in which a user needs
// them, a page of all commands, and the schema of the record. `make site` runs it.
//
// The site is static files with relative links, so it works from any web server and from a folder. Links between the
// pages lead to the site's pages. Links to other files lead to the repository. A link that leads nowhere is an error.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("site", flag.ContinueOnError)
	source := flags.String("source", "https://github.com/npcnix/npcnix/blob/main", "where links to other files of the repository lead")
	repository := flags.String("repository", ".", "the repository")
	npcnix := flags.String("npcnix", "bin/npcnix", "the program whose commands are described")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("which directory is the site to be in?")
	}
	commands, err := exec.Command(*npcnix, "manual", "--markdown").Output()
	if err != nil {
		return fmt.Errorf("describe the commands: %w: run make build first", err)
	}
	s := &site{repository: *repository, source: *source}
	if err := s.read(string(commands)); err != nil {
		return err
	}
	if err := s.write(flags.Arg(0)); err != nil {
		return err
	}
	fmt.Printf("%d pages: open %s\n", len(s.pages), filepath.Join(flags.Arg(0), "index.html"))

	return nil
}
