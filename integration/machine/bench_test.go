package machine

import "testing"

// How long it takes from power to systemd being up, and from a kill to all being gone.
func BenchmarkBoot(b *testing.B) {
	for _, suite := range []string{"trixie", "bookworm"} {
		b.Run(suite, func(b *testing.B) {
			m := Boot(b, Options{Suite: suite})
			for b.Loop() {
				m.Kill()
				m.Boot()
			}
		})
	}
}

// How long a switch takes that restarts one unit.
func BenchmarkSwitch(b *testing.B) {
	for _, suite := range []string{"trixie", "bookworm"} {
		b.Run(suite, func(b *testing.B) {
			m := Boot(b, Options{Suite: suite})
			systems := []string{
				m.Install(System{Version: "one", Units: map[string]string{"a.service": daemon("1")}}),
				m.Install(System{Version: "two", Units: map[string]string{"a.service": daemon("2")}}),
			}
			i := 0
			for b.Loop() {
				m.Must(systems[i%2]+"/bin/switch-to-configuration", "test")
				i++
			}
		})
	}
}
