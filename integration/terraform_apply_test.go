package integration

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// toldHost is what the fleet example says of a host: the members of its agent's config.json, and more.
type toldHost struct {
	Remote        string `json:"remote"`
	RemoteRegion  string `json:"remote_region"`
	QueueURL      string `json:"queue_url"`
	Host          string `json:"host"`
	Configuration string `json:"configuration"`

	DeadLetters string `json:"dead_letters"`
	RoleARN     string `json:"role_arn"`
}

type toldRemote struct {
	URL       string `json:"url"`
	CIRoleARN string `json:"ci_role_arn"`
}

// wiredFleet is the fleet example, applied; and those who use what it made.
type wiredFleet struct {
	*account
	told struct {
		Hosts   map[string]toldHost
		Remotes map[string]toldRemote
	}
	hosts, ci map[string]*actor // by "REMOTE/HOST", and by remote
}

// motoOverrides are where the modules are not applied as they stand, as moto 5.2 is not AWS there.
var motoOverrides = map[string]string{
	// It gives a RedrivePolicy back with other blanks, which the provider takes for a change.
	"host_queue": `
resource "aws_sqs_queue" "host" {
  lifecycle { ignore_changes = [redrive_policy] }
}
`,
	// It wants permissions of their own for the batches of a call. SQS knows none: "sqs:DeleteMessage" is
	// for DeleteMessageBatch too.
	"instance": `
resource "aws_iam_role_policy" "npcnix" {
  policy = replace(local.host_policy, "/\"sqs:(DeleteMessage|ChangeMessageVisibility)\"/", "\"sqs:$1\",\"sqs:$${1}Batch\"")
}
`,
	// With enforcement it gets the signature of a listing wrong, if the prefix has a slash.
	"examples/fleet": `
module "upload" {
  check_published = false
}
`,
}

// The fleet example of an empty account, applied, used by those whom it gives roles, with these roles'
// permissions alone, and destroyed.
//
// It is slow because the provider waits 25 s after each change of a queue until AWS shows it everywhere.
func TestFleetExampleFromNothingAndBack(t *testing.T) {
	t.Parallel()
	with, tree := terraformTool(t), terraformTree(t)
	f := &wiredFleet{account: newAccount(t, moto.Start(t, emptiesBuckets(t))), hosts: map[string]*actor{}, ci: map[string]*actor{}}
	if left := f.left(); len(left) != 0 {
		t.Fatalf("the account is not empty at the start: %v", left)
	}
	flake, salt := filepath.Join(t.TempDir(), "nixos"), nixtest.Salt()
	edit := func(version string) {
		t.Helper()
		f.must(nixtest.Flake(flake, salt, map[string]nixtest.System{"web1-dev": {Version: version}}))
	}
	edit("one")
	for module, text := range motoOverrides {
		f.must(os.WriteFile(filepath.Join(tree, module, "moto_override.tf"), []byte(text), 0o644))
	}
	// moto has no NixOS among its images.
	image := func(n string) string {
		return "TF_VAR_ami=" + strings.Trim(strings.TrimSpace(f.aws("ec2", "describe-images", "--query", "Images["+n+"].ImageId")), `"`)
	}
	env := append(f.env(), "PATH="+filepath.Dir(npcnix)+":"+os.Getenv("PATH"),
		"TF_VAR_bucket="+bucket, "TF_VAR_region="+awsfake.Region, "TF_VAR_flake_dir="+flake,
		image("0"))
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		return with.run(t, filepath.Join(tree, "examples", "fleet"), env, args...)
	}
	run(t, "init")

	step := func(name string, do func(t *testing.T)) {
		t.Helper()
		ok := t.Run(name, func(sub *testing.T) {
			f.t = sub
			defer func() { f.t = t }()
			do(sub)
		})
		if !ok {
			t.FailNow() // the later steps build on it
		}
	}

	step("it applies, and publishes the flake", func(t *testing.T) {
		run(t, "apply", "-auto-approve")
		if f.etag() == "" {
			t.Error("nothing was published")
		}
	})

	step("a second plan is empty, though a file of the flake was written again and there is a newer image", func(t *testing.T) {
		edit("one")
		f.must(os.Symlink("/nonexistent", filepath.Join(flake, "result")))
		with.run(t, filepath.Join(tree, "examples", "fleet"), append(env, image("1")), "plan", "-detailed-exitcode")
	})

	f.learn(run(t, "output", "-json"))
	for name, host := range f.told.Hosts {
		f.hosts[name] = f.assume(host.RoleARN)
	}
	for name, remote := range f.told.Remotes {
		f.ci[name] = f.assume(remote.CIRoleARN)
	}
	f.enforce()

	told := f.told.Hosts["dev/web1"]
	h := newHost(f.world, told.Host) // the test looks on as the administrator; the agent is web1
	h.configure(map[string]any{
		"remote": told.Remote, "remote_region": told.RemoteRegion, "configuration": told.Configuration,
		"queue_url": told.QueueURL, "host": told.Host,
	})
	h.startAs(f.hosts["dev/web1"])
	applied := func(version string) func() bool {
		return func() bool {
			r := h.record()
			return h.marker() == version && r.Status == record.Applied && r.Version.ETag == h.etag()
		}
	}
	empty := func() bool {
		visible, inFlight := h.depth(told.QueueURL)
		return visible == "0" && inFlight == "0"
	}

	step("a host with the outputs alone, and its role, comes to run what the apply published", func(t *testing.T) {
		h.await("the record of the first version", applied("one"))
		h.await("the messages deleted", empty)
	})

	step("CI, with the gate's policy, copies to the remote, and the host follows its queue", func(t *testing.T) {
		edit("two")
		archive := filepath.Join(t.TempDir(), "dev.npcnix")
		h.run("pack", "--src", flake, "--dst", archive)
		f.ci["dev"].aws("s3", "cp", "--quiet", archive, f.told.Remotes["dev"].URL)
		h.await("the record of the second version", applied("two"))
		h.await("the message deleted", empty)
		if r := h.record(); r.Trigger != record.Event || r.Host != told.Host {
			t.Errorf("record: %+v", r)
		}
		if visible, _ := h.depth(told.DeadLetters); visible != "0" {
			t.Errorf("%s dead letters", visible)
		}
	})

	step("an apply publishes the flake that has changed, and changes nothing else", func(t *testing.T) {
		edit("three")
		if out := run(t, "apply", "-auto-approve"); !strings.Contains(out, "1 added, 0 changed, 1 destroyed") {
			t.Fatal(out)
		}
		h.await("the record of the third version", applied("three"))
		h.await("the message deleted", empty)
	})

	if code := h.terminate(); code != 0 {
		t.Errorf("the agent's exit code is %d", code)
	}
	if n := h.log.count("StatusCode: 403"); n != 0 {
		t.Errorf("the agent was denied something %d times", n)
	}

	t.Run("each role may do its own work and nobody else's", f.leastPrivilege)

	step("destroy leaves nothing", func(t *testing.T) {
		run(t, "apply", "-auto-approve", "-var", "force_destroy=true")
		run(t, "destroy", "-auto-approve")
		if left := f.left(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// emptiesBuckets is the environment of a moto that empties a bucket whose versioning was suspended, as the provider
// suspends it first: DeleteObjects of moto 5.2 answers 500 to the version of a delete marker ("'FakeDeleteMarker' object
// has no attribute 'dispose'").
func emptiesBuckets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := "import moto.s3.models\nmoto.s3.models.FakeDeleteMarker.dispose = lambda self, garbage=False: None\n"
	if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return "PYTHONPATH=" + dir
}

// learn reads the outputs.
func (f *wiredFleet) learn(out string) {
	f.t.Helper()
	var outputs struct {
		Hosts   struct{ Value map[string]toldHost }
		Remotes struct{ Value map[string]toldRemote }
	}
	f.parse(out, &outputs)
	f.told.Hosts, f.told.Remotes = outputs.Hosts.Value, outputs.Remotes.Value
	if names := slices.Sorted(maps.Keys(f.told.Hosts)); !slices.Equal(names, []string{"dev/web1", "prod/web1", "prod/web2"}) || f.told.Remotes["dev"].URL != remote {
		f.t.Fatalf("outputs: %s", out)
	}
}

// startAs starts the agent with an actor's credentials, and with nothing but config.json to tell it
// what to do.
func (h *host) startAs(who *actor) {
	h.t.Helper()
	h.startIn(who.env())
}

// startIn starts the agent with an environment, and with nothing but config.json to tell it what to do.
func (h *host) startIn(env []string) {
	h.t.Helper()
	h.agent = exec.Command(npcnix, append(h.flags(), "follow", "--log-level", "debug",
		"--profile", h.path("profiles", "system"), "--current-system", h.path("root", nixtest.CurrentSystem))...)
	h.agent.Env = append(append(env, nixtest.Env()...), nixtest.RootVariable+"="+h.path("root"), "XDG_CACHE_HOME="+h.path("cache"))
	h.agent.Stderr = h.log
	h.must(os.MkdirAll(h.path("profiles"), 0o755))
	h.must(h.agent.Start())
	h.ended = make(chan error, 1)
	agent, ended := h.agent, h.ended
	go func() { ended <- agent.Wait(); close(ended) }()
}

// put writes an object as the actor.
func (a *actor) put(key string) error {
	_, err := a.s3.PutObject(a.t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader("{}")})
	return err
}
