# The example applies, with a provider that is a mock.

mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet", region = "eu-central-1" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:topic" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/policy" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:queue" }
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
  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { locations = ["eu-central-1b"] }
  }
  mock_data "aws_subnets" {
    defaults = { ids = ["subnet-b", "subnet-a"] }
  }
  mock_data "aws_vpc" {
    defaults = { cidr_block = "10.0.0.0/16", ipv6_cidr_block = "" }
  }
}

variables {
  region    = "eu-central-1"
  bucket    = "my-fleet"
  flake_dir = "tests/flake"
}

run "it_applies" {
  assert {
    condition     = alltrue([for name, values in { "default-for-az" = ["true"], "availability-zone" = ["eu-central-1b"] } : anytrue([for f in data.aws_subnets.default.filter : f.name == name && tolist(f.values) == tolist(values)])])
    error_message = "The subnet may be none of the default ones, or in a zone without the instance type."
  }
  assert {
    condition     = module.remote.key == "npcnix/remotes/dev.npcnix"
    error_message = "The remote is not where it should be."
  }
  assert {
    condition     = module.host.host_queue.host == "web1"
    error_message = "The host has no queue."
  }
  assert {
    condition     = alltrue([for b in [aws_s3_bucket_public_access_block.store] : b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets])
    error_message = "The bucket may be made public."
  }
  assert {
    condition     = aws_s3_bucket_versioning.store.versioning_configuration[0].status == "Enabled" && !aws_s3_bucket.store.force_destroy
    error_message = "The bucket keeps no versions, or may be deleted with its content."
  }
  assert {
    condition     = alltrue([for name, remote in module.store.remotes : contains([for rule in aws_s3_bucket_lifecycle_configuration.store.rule : rule.filter[0].prefix if rule.noncurrent_version_expiration[0].noncurrent_days == 1], "${remote.key}.acks/")])
    error_message = "Old versions of a remote's records are kept."
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
