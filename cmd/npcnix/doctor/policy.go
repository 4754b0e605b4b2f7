package doctor

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// question asks whether a service can do something to a topic or a queue.
type question struct {
	service  string // "s3.amazonaws.com"
	action   string // "sns:Publish"
	resource string // ARN
	// context has the values of condition keys, which are in lower case. A condition on any other key
	// cannot be evaluated.
	context map[string]string
}

// allows says whether a resource's policy allows the question, and if not, or if that is unknown, why. It
// understands only what such policies contain in practice; everything else is Unknown.
func allows(policy string, q question) (Verdict, string) {
	if policy == "" {
		return Wrong, "it has no policy"
	}
	var p struct{ Statement statements }
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		return Unknown, "its policy cannot be read: " + err.Error()
	}
	verdict, why := Wrong, fmt.Sprintf("no statement of its policy allows %s %s", q.service, q.action)
	doubt := ""
	for _, s := range p.Statement {
		applies, because := s.applies(q)
		switch {
		case s.Effect == "Deny" && applies == OK:
			return Wrong, fmt.Sprintf("a statement of its policy denies %s %s", q.service, q.action)
		case s.Effect == "Deny" && applies == Unknown:
			doubt = "a denial in its policy cannot be evaluated: " + because
		case s.Effect != "Allow":
		case applies == OK:
			verdict = OK
		case applies == Unknown && verdict != OK:
			verdict, why = Unknown, because
		case verdict == Wrong && because != "":
			why = because
		}
	}
	switch {
	case verdict == OK && doubt != "":
		return Unknown, doubt
	case verdict == OK:
		return OK, ""
	}
	return verdict, why
}

type statements []statement

// UnmarshalJSON accepts one statement without a list.
func (s *statements) UnmarshalJSON(data []byte) error {
	var list []statement
	if err := json.Unmarshal(data, &list); err == nil {
		*s = list
		return nil
	}
	var one statement
	err := json.Unmarshal(data, &one)
	*s = statements{one}
	return err
}

type statement struct {
	Effect       string
	Principal    principal
	NotPrincipal json.RawMessage
	Action       texts
	NotAction    json.RawMessage
	Resource     texts
	NotResource  json.RawMessage
	Condition    map[string]map[string]texts
}

// applies says whether the statement is about the question, and if only its conditions say that it is not,
// why.
func (s statement) applies(q question) (Verdict, string) {
	action := slices.ContainsFunc(s.Action, func(a string) bool { return like(strings.ToLower(a), strings.ToLower(q.action)) })
	resource := len(s.Resource) == 0 || slices.ContainsFunc(s.Resource, func(r string) bool { return like(r, q.resource) })
	if len(s.NotPrincipal)+len(s.NotAction)+len(s.NotResource) > 0 {
		return Unknown, "its policy has a NotPrincipal, NotAction or NotResource"
	}
	if !action || !resource || !s.Principal.includes(q.service) {
		return Wrong, ""
	}
	verdict, why := OK, ""
	for op, keys := range s.Condition {
		for key, values := range keys {
			switch met := condition(op, values, q.context[strings.ToLower(key)]); met {
			case Wrong:
				return Wrong, fmt.Sprintf("its policy allows %s only for %s %s, and not for %s",
					q.service, key, strings.Join(values, ", "), q.context[strings.ToLower(key)])
			case Unknown:
				verdict, why = Unknown, fmt.Sprintf("its policy has a condition that cannot be evaluated here: %s %s %s", op, key, strings.Join(values, ", "))
			}
		}
	}
	return verdict, why
}

// condition says whether the actual value, "" if it is unknown, meets one of the values.
func condition(op string, values texts, is string) Verdict {
	if is == "" {
		return Unknown
	}
	var meets func(value string) bool
	switch strings.TrimSuffix(op, "IfExists") {
	case "StringEquals":
		meets = func(v string) bool { return v == is }
	case "StringEqualsIgnoreCase", "Bool":
		meets = func(v string) bool { return strings.EqualFold(v, is) }
	case "StringLike", "ArnLike", "ArnEquals":
		meets = func(v string) bool { return like(v, is) }
	default:
		return Unknown
	}
	if slices.ContainsFunc(values, meets) {
		return OK
	}
	return Wrong
}

// like matches with * and ?, as policies do.
func like(pattern, s string) bool {
	// A slash is nothing special here, as it is to path.Match; brackets and backslashes are not.
	plain := strings.NewReplacer("/", "\x00", "[", `\[`, "]", `\]`, `\`, `\\`)
	matched, err := path.Match(plain.Replace(pattern), strings.ReplaceAll(s, "/", "\x00"))
	return err == nil && matched
}

// principal is who a statement is about.
type principal struct {
	everyone bool
	services texts
}

func (p *principal) UnmarshalJSON(data []byte) error {
	var word string
	if json.Unmarshal(data, &word) == nil {
		p.everyone = word == "*"
		return nil
	}
	var kinds map[string]texts
	if err := json.Unmarshal(data, &kinds); err != nil {
		return err
	}
	p.everyone = slices.Contains(kinds["AWS"], "*")
	p.services = kinds["Service"]
	return nil
}

func (p principal) includes(service string) bool {
	return p.everyone || slices.Contains(p.services, service)
}

// texts is one text or a list.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var list []string
	if json.Unmarshal(data, &list) == nil {
		*t = list
		return nil
	}
	var one any
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*t = texts{fmt.Sprint(one)}
	return nil
}

// byDefault are the regions that an account need not opt in to; AWS adds no more of them.
var byDefault = regexp.MustCompile(`^(ap-northeast-[12]|ap-south-1|ap-southeast-[12]|ca-central-1|eu-central-1|eu-north-1|eu-west-[123]|sa-east-1|us-(east|west)-[12]|(cn|us-gov)-.*)$`)

// sender is the name under which SNS sends from a topic to a queue. Between two regions of which one must be opted in
// to, it has one of that region (Amazon SNS developer guide, "Sending messages to an Amazon SQS queue in a different
// Region"). Terraform's host_queue chooses in the same way.
func sender(topic, queue string) string {
	from, to := regionOf(topic, ""), regionOf(queue, "")
	switch {
	case from == to || from == "" || to == "":
	case !byDefault.MatchString(to):
		return "sns." + to + ".amazonaws.com"
	case !byDefault.MatchString(from):
		return "sns." + from + ".amazonaws.com"
	}
	return "sns.amazonaws.com"
}
