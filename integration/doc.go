// Package integration shows on real parts that the whole works: the built npcnix binary, nix,
// an AWS that is awsfake (in process, with faults) or moto_server, and the AWS CLI.
package integration
