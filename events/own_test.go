package events

import (
	"regexp"
	"strings"
	"testing"
)

func TestOwnQueueName(t *testing.T) {
	const topic = "arn:aws:sns:eu-central-1:111122223333:npcnix-dev"
	seen := map[string]string{}
	for _, c := range []struct{ topic, remote, host, want string }{
		{topic, "s3://fleet/npcnix/remotes/dev.npcnix", "web1", "npcnix-dev-web1-"},
		{topic + "2", "s3://fleet/npcnix/remotes/dev.npcnix", "web1", "npcnix-dev-web1-"},
		{topic, "s3://other/npcnix/remotes/dev.npcnix", "web1", "npcnix-dev-web1-"},
		{topic, "s3://fleet/npcnix/remotes/dev.npcnix", "web.1", "npcnix-dev-web-1-"},
		{topic, "s3://fleet/npcnix/remotes/dev.npcnix", "web-1", "npcnix-dev-web-1-"},
		{topic, "s3://fleet/" + strings.Repeat("long.", 20) + "npcnix", strings.Repeat("host.", 40), "npcnix-long-long-"},
	} {
		name := OwnQueueName(c.topic, c.remote, c.host)
		if !strings.HasPrefix(name, c.want) || !regexp.MustCompile(`^[A-Za-z0-9_-]{1,75}$`).MatchString(name) { // 80, and "-dead"
			t.Errorf("%s of %s: %q", c.host, c.remote, name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s have one name: %s", c.host, other, name)
		}
		seen[name] = c.host
	}
}

func TestCheckTopic(t *testing.T) {
	for arn, right := range map[string]bool{
		"arn:aws:sns:eu-central-1:111122223333:npcnix-dev": true, "arn:aws-cn:sns:cn-north-1:111122223333:t": true,
		"": false, "npcnix-dev": false, "arn:aws:sqs:eu-central-1:111122223333:queue": false, "arn:aws:sns::111122223333:t": false, "arn:aws:sns:eu-central-1:111122223333:": false,
	} {
		if err := CheckTopic(arn); (err == nil) != right {
			t.Errorf("%q: %v", arn, err)
		}
	}
}
