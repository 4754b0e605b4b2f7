// Package rules has tests of what the project's source must hold to, beside what the linters see.
package rules
