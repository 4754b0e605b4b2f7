// Package herd publishes to ten thousand hosts at once. Their agents are real but for nix, and live with the cloud in
// one process and in a bubble of testing/synctest: what a host waits for is the cloud and its limits, never this
// machine's processor.
//
// It has no code of its own, only tests: see docs/benchmarks.md for what they measured.
package herd
