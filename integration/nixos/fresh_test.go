package nixos

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// A system is verified as a process that was just started finds the host: files of the store have one time, and
// Go's resolver reads /etc/hosts again only if its size or its time has changed.
func TestAVersionIsVerifiedByANewProcess(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the machine shares the network
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	port := listener.Addr().(*net.TCPAddr).Port
	resolver := nameserver(t)
	h := New(t, Options{Suite: "trixie", Flavour: RustNow, Agent: agentBinary, Module: Module(t), Base: `{
		services.npcnix.host = lib.mkForce null;
		services.npcnix.checks = [
			{ name = "store"; tcp = "store.test:` + fmt.Sprint(port) + `"; timeoutSecs = 2; }
			{ name = "named"; tcp = "named.test:` + fmt.Sprint(port) + `"; timeoutSecs = 2; }
		];
		services.npcnix.verifyTimeoutSecs = 25;
		environment.etc.hosts.text = lib.mkDefault "127.0.0.1 store.test\n";
		environment.etc."resolv.conf".text = lib.mkDefault "nameserver ` + resolver + `\noptions timeout:1 attempts:2\n";
		environment.etc."nsswitch.conf".text = lib.mkDefault "hosts: files dns\n";
	}`})

	version, etag := h.Publish("as before", "{ }") // after which the agent has looked the name up
	if r := h.Final(etag); r.Status != "applied" {
		t.Fatalf("%s is %s: %s", version, r.Status, r.Text())
	}
	h.Applied = version
	h.stands(version)

	for _, c := range []struct{ name, change, check string }{
		{"a name that leads elsewhere", `{ environment.etc.hosts.text = "127.0.0.9 store.test\n"; }`, "store"},
		{"a resolver that is not there", `{ environment.etc."resolv.conf".text = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"; }`, "named"},
		{"names of files alone", `{ environment.etc."nsswitch.conf".text = "hosts: files\n"; }`, "named"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.use(t)
			version, etag := h.Publish(c.name, c.change)
			if r := h.Final(etag); r.Status != "rolled_back" || !strings.Contains(r.Text(), "check "+c.check) {
				t.Errorf("%s is %s: %s", version, r.Status, r.Text())
			}
			h.stands(h.Applied)
		})
	}

	t.Run("another time zone", func(t *testing.T) {
		h.use(t)
		zone, err := time.LoadLocation("Asia/Tokyo")
		if err != nil {
			t.Skip(err)
		}
		pid := h.Unit("npcnix", "MainPID")
		opens := time.Now().In(zone).Add(12 * time.Hour).Truncate(time.Hour)
		version, etag := h.Publish("tokyo", fmt.Sprintf(`{
			environment.etc.localtime.source = "/usr/share/zoneinfo/Asia/Tokyo";
			services.npcnix = { reboot = "when-needed"; rebootWindow = "%s-%s"; };
			test.kernel = "6.2";
		}`, opens.Format("15:04"), opens.Add(time.Hour).Format("15:04")))
		if r := h.Final(etag); r.Status != "applied" {
			t.Errorf("%s is %s: %s", version, r.Status, r.Text())
		}
		h.Applied = version
		h.stands(version)
		var health struct {
			RebootAt time.Time `json:"reboot_at"`
		}
		h.Await("a planned reboot", func() bool {
			return json.Unmarshal([]byte(h.Read(dataDir+"/agent.json")), &health) == nil && !health.RebootAt.IsZero()
		})
		if at := health.RebootAt; at.Before(opens) || at.After(opens.Add(time.Hour)) {
			t.Errorf("the reboot is planned for %s, and the window opens at %s", at, opens)
		}
		if h.Unit("npcnix", "MainPID") != pid {
			t.Error("systemd has restarted the agent")
		}
	})
	t.Run("another host name", func(t *testing.T) {
		h.use(t)
		pid := h.Unit("npcnix", "MainPID")
		version, etag := h.Publish("renamed", `{ networking.hostName = lib.mkForce "web2"; }`)
		h.Await("the record under the new name", func() bool {
			text := h.Read(remoteFile + ".acks/web2.json")
			return strings.Contains(text, etag) && strings.Contains(text, `"applied"`)
		})
		h.Await("a mark in the record under the old name", func() bool {
			return strings.Contains(h.Read(recordFile), `"renamed_to": "web2"`)
		})
		h.Applied = version
		h.stands(version)
		if h.Unit("npcnix", "MainPID") != pid {
			t.Error("systemd has restarted the agent")
		}
		if said := h.Must("/opt/npcnix", "hosts", "--remote", remote, "--json"); strings.Count(said, `"applied"`) != 1 || !strings.Contains(said, "its name is web2 now") {
			t.Errorf("the fleet is %s", said)
		}
	})
	h.use(t)
}
