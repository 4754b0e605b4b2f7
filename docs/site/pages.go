package main

// section is a part of the site, in the order of a user's life.
type section struct {
	title string
	pages []string // files of the repository
}

// commandPage is made of the program itself, and stands in no file.
const commandPage = "docs/command-reference.md"

var sections = []section{
	{"Why, and a quick start", []string{"README.md", "docs/install.md"}},
	{"AWS", []string{"docs/terraform.md", "docs/aws.md", "docs/first-host.md"}},
	{"Publish", []string{"docs/ci.md", "docs/releases.md", "docs/rollouts.md"}},
	{"Operate", []string{"docs/operate.md", "docs/observability.md", "docs/runbook.md"}},
	{"Safety", []string{"docs/safety.md"}},
	{"Reference", []string{
		"docs/commands.md", commandPage, "docs/settings.md", "docs/options.md", "docs/files.md", "docs/stores.md", "docs/benchmarks.md",
	}},
	{"Terraform modules", []string{
		"terraform/store_s3/README.md", "terraform/remote_s3/README.md", "terraform/remote_s3_upload/README.md",
		"terraform/host_queue/README.md", "terraform/host_policy/README.md", "terraform/install/README.md", "terraform/instance/README.md",
		"terraform/instance_multi/README.md", "terraform/elastic_hosts/README.md", "terraform/gate/README.md", "terraform/cache_s3/README.md", "terraform/notify/README.md",
	}},
	{"Examples", []string{
		"terraform/examples/single/README.md", "terraform/examples/fleet/README.md", "terraform/examples/elastic/README.md", "terraform/examples/polling/README.md",
		"terraform/examples/bring-your-own-topic/README.md", "terraform/examples/two-regions-two-accounts/README.md",
	}},
	{"Develop", []string{
		"CONTRIBUTING.md", "CHANGELOG.md", "docs/design/2026-11-22-acknowledge-when-done.md", "docs/design/2026-11-23-test-then-commit.md",
		"docs/design/2026-11-28-nixos-parts.md", "docs/design/2026-11-28-one-finish.md", "docs/design/2026-11-28-promises.md",
	}},
}

// assets are files that the site has besides, in the same place.
var assets = []string{"docs/record.schema.json"}
