# What is known only after an apply. The provider is a mock.

mock_provider "aws" {
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:topic" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/chat" }
  }
}

variables {
  remote = {
    name        = "dev"
    bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
    key         = "npcnix/remotes/dev.npcnix"
    url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
    eventbridge = true
  }
  slack = { workspace_id = "T012AB3C4", channel_id = "C012AB3CD" }
}

run "eventbridge_publishes_to_both_topics_without_a_condition" {
  assert {
    condition = alltrue([for policy in [aws_sns_topic_policy.text.policy, aws_sns_topic_policy.chat[0].policy] : jsondecode(policy).Statement == [{
      Sid       = "RulesPublish"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
    }]])
    error_message = "A topic does not let exactly EventBridge publish, or has a condition, which EventBridge does not support."
  }
}
