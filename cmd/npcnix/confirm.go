package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
)

// errDeclined says that the operator did not agree.
var errDeclined = errors.New("nothing was published, since the answer was not yes")

// confirm asks the operator a question, unless --yes has answered it. Without a terminal nobody can be asked, and it
// is wrong usage.
func confirm(ctx context.Context, c *common, yes bool, question string) error {
	switch {
	case yes:
		return nil
	case terminal(os.Stdin) == nil:
		return usageError{errors.New("nothing was published: there is no terminal to ask at, so give --yes")}
	}

	return ask(ctx, c.stderr, os.Stdin, question)
}

// ask returns nil if the next line of in is a yes.
func ask(ctx context.Context, out io.Writer, in io.Reader, question string) error {
	if err := printTo(out, "%s [y/N] ", question); err != nil {
		return err
	}
	answer := make(chan string, 1)
	go func() { // ends with the process: a read of a terminal cannot be ended otherwise
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		if a != "y" && a != "yes" {
			return errDeclined
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
