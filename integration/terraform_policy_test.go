package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// policy is an IAM policy, or one of a bucket, topic, queue or key, as far as this project's use them.
type policy struct {
	Statement []struct {
		Sid, Effect      string
		Principal        oneOrMore            // "TYPE ID"
		Action, Resource oneOrMore            // patterns
		Condition        map[string]condition // by operator
	}
}

type condition map[string]oneOrMore // by key: any of the values

// request is what AWS asks a policy about.
type request struct {
	principal        string // "Service s3.amazonaws.com", "AWS arn:…"; "" for a policy of whoever asks
	action, resource string
	context          map[string]string
}

func parsePolicy(t testing.TB, text string) policy {
	t.Helper()
	var p policy
	if err := json.Unmarshal([]byte(text), &p); err != nil || len(p.Statement) == 0 {
		t.Fatalf("not a policy: %v: %s", err, text)
	}
	return p
}

// allows evaluates the policy as IAM does: denied unless a statement allows it, and none denies it.
func (p policy) allows(r request) bool {
	allowed := false
	for _, s := range p.Statement {
		if r.principal != "" && !s.Principal.match(r.principal) || !s.Action.match(r.action) || !s.Resource.match(r.resource) {
			continue
		}
		holds := true
		for operator, c := range s.Condition {
			holds = holds && c.holds(operator, r.context)
		}
		switch {
		case !holds:
		case s.Effect == "Deny":
			return false
		default:
			allowed = true
		}
	}
	return allowed
}

var variable = regexp.MustCompile(`\$\{([^}]+)\}`)

// holds says whether each key of the condition is in the context with one of its values, in which ${KEY} stands for
// another key's value.
func (c condition) holds(operator string, context map[string]string) bool {
	for key, patterns := range c {
		got, found := context[key]
		var values oneOrMore
		for _, pattern := range patterns {
			known := true
			text := variable.ReplaceAllStringFunc(pattern, func(name string) string {
				value, ok := context[name[2:len(name)-1]]
				known = known && ok
				return value
			})
			if known {
				values = append(values, text)
			}
		}
		switch operator {
		case "Null":
			found = values.has(fmt.Sprint(!found))
		case "StringLike", "ArnLike", "ArnEquals": // for ARNs these two are the same
			found = found && values.match(got)
		case "StringEquals":
			found = found && values.has(got)
		default:
			panic("the test knows no operator " + operator)
		}
		if !found {
			return false
		}
	}
	return true
}

// oneOrMore is a string or a list of them, or, as principals are, an object of such by type.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return err
	}
	add := func(prefix string, value any) error {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, one := range list {
			text, ok := one.(string)
			if !ok {
				return fmt.Errorf("neither a string nor a list of strings: %s", data)
			}
			*o = append(*o, prefix+text)
		}
		return nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return add("", value)
	}
	for typ, names := range object {
		if err := add(typ+" ", names); err != nil {
			return err
		}
	}
	return nil
}

func (o oneOrMore) has(text string) bool {
	for _, one := range o {
		if one == text {
			return true
		}
	}
	return false
}

// match compares as policies do: * stands for any characters, ? for one.
func (o oneOrMore) match(text string) bool {
	for _, pattern := range o {
		pattern = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		if regexp.MustCompile("^" + pattern + "$").MatchString(text) {
			return true
		}
	}
	return false
}

// policyLimits are how many bytes AWS takes of a policy. IAM does not count white space, and the test does.
var policyLimits = []struct {
	resource, attribute string
	limit               int
}{
	{"aws_iam_role", "assume_role_policy", 2048}, // IAM and AWS STS quotas: 2,048 of a trust policy,
	{"aws_iam_policy", "policy", 6144},           // 6,144 of a managed policy,
	{"aws_iam_role_policy", "policy", 10240},     // and 10,240 of all inline policies of a role
	{"aws_sns_topic_policy", "policy", 30000},    // Amazon SNS API permissions, "Policy quotas": 30 kb
	{"aws_sqs_queue_policy", "policy", 8192},     // Amazon SQS policy quotas
	{"aws_s3_bucket_policy", "policy", 20480},    // Amazon S3, "Bucket policies": 20 KB
	{"aws_kms_key", "policy", 32768},             // AWS KMS, "Resource quotas": 32 KB of a key policy
}

// policySizes compares all policies that the root has applied with AWS's limits, and logs the largest of each kind. The
// kinds are all that there must be.
func (r *root) policySizes(kinds ...string) {
	r.t.Helper()
	type module struct {
		Resources []struct {
			Type   string
			Values map[string]any
		}
		Children []module `json:"child_modules"`
	}
	var state struct {
		Values struct {
			Root module `json:"root_module"`
		}
	}
	if err := json.Unmarshal([]byte(r.tool.run(r.t, r.dir, r.env, "show", "-json")), &state); err != nil {
		r.t.Fatal(err)
	}
	sizes := map[string]map[string]int{} // by kind, and by role or what else has the policy
	var walk func(module)
	walk = func(m module) {
		for _, one := range m.Resources {
			for _, l := range policyLimits {
				text, _ := one.Values[l.attribute].(string)
				if one.Type != l.resource || text == "" {
					continue
				}
				if sizes[l.resource] == nil {
					sizes[l.resource] = map[string]int{}
				}
				of, _ := one.Values[map[bool]string{true: "role", false: "id"}[l.resource == "aws_iam_role_policy"]].(string)
				sizes[l.resource][of] += len(text)
			}
		}
		for _, child := range m.Children {
			walk(child)
		}
	}
	walk(state.Values.Root)
	for _, l := range policyLimits {
		largest := 0
		for _, size := range sizes[l.resource] {
			largest = max(largest, size)
		}
		if largest > 0 {
			r.t.Logf("largest %s of %d %s: %d of %d", l.attribute, len(sizes[l.resource]), l.resource, largest, l.limit)
		}
		if largest > l.limit {
			r.t.Errorf("%s: a policy of %d, and AWS takes %d", l.resource, largest, l.limit)
		}
	}
	if got := slices.Sorted(maps.Keys(sizes)); !slices.Equal(got, kinds) {
		r.t.Errorf("policies of %q, not of %q", got, kinds)
	}
}

func TestThePolicyEvaluatorDeniesWhatIsNotAllowed(t *testing.T) {
	p := parsePolicy(t, `{"Statement":[
		{"Effect":"Allow","Principal":{"Service":["a.com","b.com"],"AWS":"arn:aws:iam::1:root"},"Action":"s:Get*","Resource":"arn:x/*",
		 "Condition":{"StringEquals":{"k":["1","2"]},"ArnLike":{"arn":"arn:?:*"}}},
		{"Effect":"Deny","Principal":"*","Action":["s:GetSecret"],"Resource":"*"}]}`)
	context := map[string]string{"k": "2", "arn": "arn:a:b"}
	ok := request{"Service b.com", "s:GetThing", "arn:x/y", context}
	if !p.allows(ok) {
		t.Error("what is allowed is denied")
	}
	for what, r := range map[string]request{
		"another principal":        {"Service c.com", "s:GetThing", "arn:x/y", context},
		"another type of it":       {"AWS b.com", "s:GetThing", "arn:x/y", context},
		"another action":           {"Service b.com", "s:PutThing", "arn:x/y", context},
		"another resource":         {"Service b.com", "s:GetThing", "arn:y/y", context},
		"another value":            {"Service b.com", "s:GetThing", "arn:x/y", map[string]string{"k": "3", "arn": "arn:a:b"}},
		"a key that is not there":  {"Service b.com", "s:GetThing", "arn:x/y", map[string]string{"k": "2"}},
		"what is denied by itself": {"", "s:GetSecret", "arn:x/y", context},
	} {
		if p.allows(r) {
			t.Errorf("%s is allowed", what)
		}
	}
}
