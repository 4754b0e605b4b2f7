package doctor

import "testing"

func TestSender(t *testing.T) {
	for _, c := range []struct{ topic, queue, want string }{
		{"eu-central-1", "eu-central-1", "sns.amazonaws.com"},
		{"eu-south-1", "eu-south-1", "sns.amazonaws.com"},
		{"eu-central-1", "us-east-1", "sns.amazonaws.com"},
		{"eu-central-1", "eu-south-1", "sns.eu-south-1.amazonaws.com"},
		{"af-south-1", "us-west-1", "sns.af-south-1.amazonaws.com"},
		{"af-south-1", "eu-south-1", "sns.eu-south-1.amazonaws.com"},
		{"cn-north-1", "cn-northwest-1", "sns.amazonaws.com"},
	} {
		got := sender("arn:aws:sns:"+c.topic+":1:t", "arn:aws:sqs:"+c.queue+":2:q")
		if got != c.want {
			t.Errorf("from %s to %s: %s, want %s", c.topic, c.queue, got, c.want)
		}
	}
}
