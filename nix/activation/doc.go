// Package activation switches a host from one system to another, verifies the new system, and then commits
// to it or rolls back.
//
// It promises:
//   - An activation ends with the new system committed or with the previous one restored, whichever process
//     dies meanwhile, and even if the machine loses power. Where neither can be had it says so
//     ([RollbackFailed]).
//   - Each phase is on disk before what it names begins; see [Journal].
//   - An unverified system never becomes the boot default, unless it can be activated only by a reboot.
//   - A rollback needs no network.
//
// Three kinds of processes share the work. None of them needs the others to be alive:
//   - the agent, by a [Coordinator], requests the activation, waits, verifies, and asks for the commit or
//     for the rollback;
//   - the worker ([Work]) does what the phase asks for, in a unit of its own (npcnix-activate);
//   - the rollback timer ([RunTimer]), in a unit of its own (npcnix-rollback), makes the rollback once
//     the time is up, unless the system was committed.
//
// Whoever changes the phase holds activation.lock. If a phase has work to do (switching, committing, rolling
// back) while nobody holds the lock, its worker was interrupted.
//
// Under systemd, systemctl and systemd-run must be on PATH. Without systemd, worker and timer are processes
// in sessions of their own, and units are not watched.
package activation
