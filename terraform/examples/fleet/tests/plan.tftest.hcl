# The example plans, on an account whose data are given.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
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

run "it_plans" {
  command = plan

  assert {
    condition     = toset(keys(output.hosts)) == toset(["dev/web1", "prod/web1", "prod/web2"])
    error_message = "The hosts are not those asked for."
  }
  assert {
    condition     = output.hosts["prod/web2"].configuration == "web2-prod" && output.hosts["prod/web2"].host == "web2.prod"
    error_message = "A host is not told its own configuration and name."
  }
  assert {
    condition     = alltrue([for b in [aws_s3_bucket_public_access_block.store] : b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets])
    error_message = "The bucket may be made public."
  }
}
