# The example applies, with providers that are mocks of two accounts and two regions.

mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet", region = "eu-central-1" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:topic" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1" }
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
}

mock_provider "aws" {
  alias = "hosts"
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:us-east-1:210987654321:queue" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::210987654321:policy/policy" }
  }
  mock_data "aws_service" {
    defaults = { region = "us-east-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "210987654321" }
  }
}

mock_provider "aws" {
  alias = "hosts_near_store"
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:210987654321:queue" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::210987654321:policy/policy" }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "210987654321" }
  }
}

variables {
  region         = "eu-central-1"
  hosts_region   = "us-east-1"
  hosts_role_arn = "arn:aws:iam::210987654321:role/terraform"
  bucket         = "my-fleet"
  flake_dir      = "tests/flake"
}

run "it_applies" {
  assert {
    condition     = aws_sns_topic_subscription.web2.endpoint == "arn:aws:sqs:us-east-1:210987654321:queue" && aws_sns_topic_subscription.web2.topic_arn == "arn:aws:sns:eu-central-1:123456789012:topic"
    error_message = "The queue of web2 is not subscribed to the topic in the other region and account."
  }
  assert {
    condition     = aws_s3_bucket_ownership_controls.store.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "Records that the hosts' account writes do not belong to the store's account."
  }
}
