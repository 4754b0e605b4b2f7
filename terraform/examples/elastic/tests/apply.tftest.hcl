# The example applies, with a provider that is a mock.

mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet", region = "eu-central-1" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:topic" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/web" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/policy" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-1", latest_version = 3 }
  }
  mock_data "aws_s3_objects" {
    defaults = { keys = ["npcnix/remotes/dev.npcnix"] }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_subnets" {
    defaults = { ids = ["subnet-b", "subnet-a"] }
  }
}

variables {
  region    = "eu-central-1"
  bucket    = "my-fleet"
  flake_dir = "tests/flake"
}

run "it_applies" {
  assert {
    condition     = aws_autoscaling_group.web.launch_template[0].version == "3" && aws_autoscaling_group.web.desired_capacity == 2
    error_message = "The group does not start members of the newest template."
  }
}

run "it_can_have_a_cache" {
  variables {
    cache_bucket = "my-cache"
  }
  assert {
    condition     = startswith(output.cache_url, "s3://") && output.cache_write_policy_arn != null
    error_message = "There is no cache."
  }
}
