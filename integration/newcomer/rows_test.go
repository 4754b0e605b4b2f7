package newcomer

import (
	"path"
	"strings"
)

// row is a block that is not simply typed as it stands.
type row struct {
	page  string // or a pattern of pages
	block string // how it begins

	why string // it cannot run here

	says   string // words of the page that tell the reader to do something before
	before string // what the reader then does, in the same shell

	replace, with string // a text of the block, and what stands for it here
}

func (r row) names(b block) bool {
	matches, _ := path.Match(r.page, b.page) // a wrong pattern names no block, and so fails
	return matches && strings.HasPrefix(b.text, r.block)
}

// rows are in the order of the pages.
var rows = []row{
	{page: "README.md", block: "make demo",
		says:   "It needs Go 1.26, make and nix; on Debian, as root, it installs nix.",
		before: "export PATH=$PATH:/usr/local/go/bin; apt-get update && apt-get install -y --no-install-recommends make"},
	{page: "README.md", block: "npcnix push --src . --remote s3://my-fleet/npcnix/remotes/dev.npcnix\n",
		says: "Here you already have a bucket, `my-fleet`, which the host can read, and a flake with a host, `web1`.",
		before: `install bin/npcnix /usr/local/bin
cp -r docs/try ~/my-flake && cd ~/my-flake && sed -i "s/web1-$(uname -m)/web1/" flake.nix`},
	{page: "README.md", block: "nix run github:npcnix/npcnix#install --", // GitHub and nixpkgs are not here
		replace: "nix run github:npcnix/npcnix#install --", with: "npcnix install"},
	{page: "README.md", block: "npcnix push --src . --remote s3://my-fleet/npcnix/remotes/dev.npcnix --wait",
		says:   "From then on its agent follows the remote.",
		before: agent + "\n" + change},
	{page: "README.md", block: "make check", why: "the tests themselves, and figures of minutes and hours"},

	{page: "docs/aws.md", block: "set -eu",
		says:   "Run it in bash, with the AWS CLI, version 2, and credentials",
		before: "apt-get install -y --no-install-recommends awscli"},
	{page: "docs/ci.md", block: "#!/bin/sh",
		says: "Keep this script in the flake's repository as `ci/publish.sh`.",
		before: `export REMOTE=s3://my-fleet/npcnix/remotes/dev.npcnix TOPIC_ARN=arn:aws:sns:us-east-1:123456789012:npcnix-dev
cd ~/my-flake; ` + change},
	{page: "docs/ci.md", block: "set -e", says: "so the job reads its JSON, with `jq`", before: "apt-get install -y --no-install-recommends jq"},
	{page: "docs/operate.md", block: "journalctl -u npcnix", why: "an agent that is a unit: TestModuleUnits boots one"},
	{page: "docs/observability.md", block: "npcnix hosts --remote",
		says: "A cron job on one machine writes a textfile", before: "mkdir -p /var/lib/npcnix-metrics"},
	{page: "docs/commands.md", block: "npcnix pack", says: "A publish is one object",
		before: "npcnix config set rollout_signers '[]' && npcnix config set signers '[]' && cd ~/my-flake && " + change},
	{page: "docs/commands.md", block: "aws s3 cp s3://my-fleet/npcnix/remotes/dev.npcnix.acks",
		says: "Each host writes its record beside the remote", before: "npcnix wait --remote s3://my-fleet/npcnix/remotes/dev.npcnix --host web1"},

	{page: "docs/releases.md", block: "remote=", says: "Make a key with `ssh-keygen` of OpenSSH",
		before: `apt-get install -y --no-install-recommends openssh-client git
mkdir ~/fleet && cd ~/fleet && git init --quiet && cp -r ~/my-flake configurations && git add . &&
git -c user.name=ops -c user.email=ops@example.org commit --quiet -m first`},
	{page: "docs/releases.md", block: "npcnix push", says: "let the hosts trust it",
		before: `npcnix config set signers "[\"release@example.org $(cut -d ' ' -f 1,2 release-key.pub)\"]"`},
	{page: "docs/releases.md", block: "npcnix release renew", says: "A release that was published with `--expires 336h`",
		before: `npcnix push --src ./configurations --remote "$remote" --sign-key release-key --expires 336h`},
	{page: "docs/releases.md", block: "arn=", why: "AWS: moto has no ed25519 keys, and a test of store/release has its P-256"},
	{page: "docs/releases.md", block: "nix-store", why: "Debian's nix is built without S3: TestACacheInS3 has a newer one"},
	{page: "docs/releases.md", block: "npcnix cache gc", why: "it needs a cache in S3: TestSweepOfACacheInS3 has one"},
	{page: "docs/rollouts.md", block: "npcnix rollout", replace: "--wave 100% ", with: "--wave 100% --soak 1s --wave-interval 1s ", // not for three quarters of an hour
		says: "the keys are made as [releases.md](releases.md#sign) shows",
		before: `remote=s3://my-fleet/npcnix/remotes/dev.npcnix; cd ~/fleet
ssh-keygen -q -t ed25519 -N '' -C rollout@example.org -f rollout-key
npcnix config set rollout_signers "[\"rollout@example.org $(cut -d ' ' -f 1,2 rollout-key.pub)\"]"
sed -i "s/hello from version .*\"/hello from version rollout\"/" configurations/flake.nix`},
	{page: "docs/rollouts.md", block: "npcnix history", // of the only host, to the previous release
		replace: "--to 1c0ffee --wave 'canary-*' --wave 100%", with: "--yes"},
	{page: "docs/rollouts.md", block: "npcnix diff", replace: "1c0ffee", with: ""},
	{page: "docs/rollouts.md", block: "npcnix promote", replace: "--wave 'canary-*' --wave 100%", with: "",
		says: "publishes the release that one remote holds to another one",
		before: `staging=$remote production=s3://my-fleet/npcnix/remotes/prod.npcnix
cp release-key prod-key && cp release-key.pub staging-key.pub
npcnix wait --remote "$staging" --host web1`},
	{page: "docs/benchmarks.md", block: "make bench", why: "figures, which differ on each machine"},
	{page: "docs/benchmarks.md", block: "make herd", why: "figures that take half an hour"},
	{page: "CONTRIBUTING.md", block: "make lint", why: "the tests themselves"},

	{page: "terraform/install/README.md", block: "#!/usr/bin/env bash", why: "user data of an EC2 host: TestBootInstallsWithTheRealNixAndNpcnix runs the script"},
	{page: "terraform/examples/*/README.md", block: "terraform init", why: "an AWS account with EC2: TestFleetExampleFromNothingAndBack applies on moto_server"},
	{page: "terraform/examples/*/README.md", block: "terraform apply", why: "the same account"},
	{page: "terraform/examples/*/README.md", block: "npcnix ", why: "the fleet of that apply; README.md and docs/ci.md have these commands"},
}

const (
	agent  = "setsid npcnix follow >>/var/log/npcnix.log 2>&1 &" // the host's service manager does this
	change = `sed -i "s/hello from version .*\"/hello from version $RANDOM\"/" ~/my-flake/flake.nix`
)
