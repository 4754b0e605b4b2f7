// Package faults runs an agent through every fault that a store, a queue, a network or a machine is known to
// have, while the agent is idle, fetches, builds and verifies.
//
// Its tests are the matrix of docs/safety.md. The agent, its store and its queue are real, from the loop down to the
// SDK's connections; the cloud is awsfake, behind a network in memory. Each case lives in a bubble of
// testing/synctest, so hours pass in no time. The host, which builds and switches, is a stand-in: real ones have
// faults of their own, which the tests of integration cover.
package faults
