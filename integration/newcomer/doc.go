// Package newcomer does what a new user does: it types every shell block of README.md and of the pages for users,
// in the order of README's table, into an empty Debian. There is nothing in it but what the pages say to install.
//
// A block must end with 0, and print what its page shows. Its output is shown by a fence "text output" below it, or
// by a fence "console", whose first line is the command. A line of only dots stands for any lines; times, hashes and
// the width of columns do not count. What cannot run here stands in one table, rows, with its reason; so does what
// the reader does between the blocks, with the words of the page that say so. A row without a block, or whose words
// have gone from the page, fails.
//
// The run needs root, debootstrap's root (integration/deps.sh newcomer), moto_server, and a network for apt. Go and
// the modules of go.mod are this machine's. The table alone is checked by every `go test`.
package newcomer
