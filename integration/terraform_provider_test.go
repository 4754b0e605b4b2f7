package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// members is what the provider has of a type or block, by name: "", "read-only" for what is no argument,
// "deprecated: WHY", or what a block has.
type members map[string]any

// The tests run with provider 5. Of provider 6 they have the names of what each type has, in testdata/provider.json,
// which provider-schema.mjs makes. All that the modules, the examples and the READMEs use is there, and not deprecated.
func TestTerraformUsesWhatProvider6Has(t *testing.T) {
	t.Parallel()
	types := providerTypes(t)
	var files []string
	for _, pattern := range []string{"../terraform/*/*.tf", "../terraform/examples/*/*.tf", "../terraform/*/README.md", "../docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	used := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found, wrong := types.check(string(text))
		used += found
		for _, what := range wrong {
			t.Errorf("%s: %s", file, what)
		}
	}
	if used < 300 {
		t.Errorf("found only %d uses", used)
	}
	// What modules read of the resources that are passed to them.
	for typ, names := range map[string]string{
		"aws_s3_bucket": "id arn region", "aws_sns_topic": "arn", "aws_route53_zone": "zone_id name",
		"aws_subnet": "id vpc_id assign_ipv6_address_on_creation", "data.aws_subnet": "id vpc_id assign_ipv6_address_on_creation",
		"aws_vpc": "id cidr_block ipv6_cidr_block", "data.aws_vpc": "id cidr_block",
	} {
		for name := range strings.FieldsSeq(names) {
			if why := types[typ].wrong(name, false); why != "" {
				t.Errorf("%s.%s %s", typ, name, why)
			}
		}
	}
}

// provider has its types by name; those of data sources begin with "data.".
type provider map[string]members

func providerTypes(t *testing.T) provider {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "provider.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if version := fmt.Sprint(all["version"]); !strings.HasPrefix(version, "6.") {
		t.Fatalf("these are the types of version %s", version)
	}
	types := provider{}
	for name, value := range all {
		if has, ok := value.(map[string]any); ok {
			types[name] = has
		}
	}
	return types
}

var (
	awsBlock     = regexp.MustCompile(`(?ms)^(resource|data) "(aws_\w+)" "\w+" \{\n(.*?)^\}`)
	awsReference = regexp.MustCompile(`\b((?:data\.)?aws_\w+)\.\w+(?:\[[^\]]*\])?\.(\w+)`)
	hclMember    = regexp.MustCompile(`^( *)(?:(\w+) += |(dynamic )?"?(\w+)"? \{(\}?)$)`)
)

// check finds what a text uses of the types, as `terraform fmt` leaves it written: how much, and what of it is wrong.
func (p provider) check(text string) (found int, wrong []string) {
	for _, b := range awsBlock.FindAllStringSubmatch(text, -1) {
		typ := b[2]
		if b[1] == "data" {
			typ = "data." + typ
		}
		if p[typ] == nil {
			wrong = append(wrong, typ+" is not in testdata/provider.json: add it to provider-schema.mjs")
			continue
		}
		used, bad := p[typ].check(typ, strings.Split(b[3], "\n"))
		found += used
		wrong = append(wrong, bad...)
	}
	for _, r := range awsReference.FindAllStringSubmatch(text, -1) {
		if p[r[1]] == nil {
			wrong = append(wrong, r[1]+" is not in testdata/provider.json: add it to provider-schema.mjs")
			continue
		}
		found++
		if why := p[r[1]].wrong(r[2], false); why != "" {
			wrong = append(wrong, r[1]+"."+r[2]+" "+why)
		}
	}
	return found, wrong
}

// meta are Terraform's own members of any block.
var meta = []string{"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner", "iterator", "labels"}

// check goes through the lines of a block's body.
func (m members) check(where string, lines []string) (found int, wrong []string) {
	indent := -1
	for n := 0; n < len(lines); n++ {
		line := hclMember.FindStringSubmatch(lines[n])
		if line == nil || indent >= 0 && len(line[1]) != indent {
			continue // a comment, or inside of an expression
		}
		indent = len(line[1])
		argument, block := line[2], line[4]
		name := argument + block
		if slices.Contains(meta, name) {
			continue
		}
		found++
		if why := m.wrong(name, true); why != "" {
			wrong = append(wrong, where+"."+name+" "+why)
			continue
		}
		inner, isBlock := m[name].(map[string]any)
		if argument != "" || !isBlock || line[5] != "" {
			continue
		}
		end := n + 1
		for end < len(lines) && lines[end] != line[1]+"}" {
			end++
		}
		body := lines[n+1 : min(end, len(lines))]
		if line[3] != "" {
			content := slices.Index(body, line[1]+"  content {")
			body = body[content+1 : len(body)-1]
		}
		used, bad := members(inner).check(where+"."+name, body)
		found += used
		wrong = append(wrong, bad...)
	}
	return found, wrong
}

// wrong says what is wrong with the use of a member, if anything is.
func (m members) wrong(name string, argument bool) string {
	value, found := m[name]
	text, _ := value.(string)
	switch {
	case !found:
		return "does not exist"
	case strings.HasPrefix(text, "deprecated"):
		return "is " + text
	case argument && text == "read-only":
		return "can only be read"
	}
	return ""
}

func TestWhatProvider6LacksIsFound(t *testing.T) {
	t.Parallel()
	_, got := providerTypes(t).check(`
resource "aws_s3_bucket" "b" {
  acl    = "private"
  bucket = jsonencode({
    nothing = 1
  })
  arn = "x"
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_instance" "b" {
  count = 1
  root_block_device {
    encrypt = true
  }
  dynamic "ebs_block_device" {
    for_each = []
    content {
      size        = 1
      volume_size = 2
    }
  }
}

data "aws_region" "here" {}

output "x" {
  value = [data.aws_region.here.id, aws_instance.b[0].nothing, aws_s3_bucket.b.arn, data.aws_region.here.region]
}
`)
	var want = []string{
		"aws_s3_bucket.acl is deprecated", "aws_s3_bucket.arn can only be read",
		"aws_instance.root_block_device.encrypt does not exist", "aws_instance.ebs_block_device.size does not exist",
		"data.aws_region.id is deprecated", "aws_instance.nothing does not exist",
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got %q, want %q", got, want)
	}
}
