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
	tcp := fmt.Sprintf("store.test:%d", listener.Addr().(*net.TCPAddr).Port)
	h := New(t, Options{Suite: "trixie", Flavour: RustNow, Agent: agentBinary, Module: Module(t), Base: `{
		services.npcnix.checks = [ { name = "store"; tcp = "` + tcp + `"; timeoutSecs = 2; } ];
		services.npcnix.verifyTimeoutSecs = 25;
		environment.etc.hosts.text = lib.mkDefault "127.0.0.1 store.test\n";
	}`})

	version, etag := h.Publish("as before", "{ }") // after which the agent has looked the name up
	if r := h.Final(etag); r.Status != "applied" {
		t.Fatalf("%s is %s: %s", version, r.Status, r.Text())
	}
	h.Applied = version
	h.stands(version)

	t.Run("a name that leads elsewhere", func(t *testing.T) {
		h.use(t)
		version, etag := h.Publish("elsewhere", `{ environment.etc.hosts.text = "127.0.0.9 store.test\n"; }`)
		if r := h.Final(etag); r.Status != "rolled_back" || !strings.Contains(r.Text(), "check store") {
			t.Errorf("%s is %s: %s", version, r.Status, r.Text())
		}
		h.stands(h.Applied)
	})

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
	h.use(t)
}
