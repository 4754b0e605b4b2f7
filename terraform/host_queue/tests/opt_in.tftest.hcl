# A queue in a region that an account must opt in to. In a file of its own, because a mock keeps a queue's ARN from one
# run to the next.

mock_provider "aws" {
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-south-1:123456789012:npcnix-dev-web1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-south-1" }
  }
}

variables {
  host      = "web1"
  subscribe = false
  remote = {
    name      = "dev"
    filename  = "dev.npcnix"
    bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
    key       = "npcnix/remotes/dev.npcnix"
    url       = "s3://my-fleet/npcnix/remotes/dev.npcnix"
    region    = "eu-central-1"
    events    = true
    topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
  }
}

run "a_queue_in_a_region_to_opt_in_to_hears_of_sns_under_the_name_of_that_region" {
  assert {
    condition     = alltrue([for policy in aws_sqs_queue_policy.topic_sends : jsondecode(policy.policy).Statement[0].Principal == { Service = "sns.eu-south-1.amazonaws.com" }]) && output.kms_key_statements[0].Principal.Service == "sns.eu-south-1.amazonaws.com"
    error_message = "SNS is not admitted under the name of the queue's region."
  }
}
