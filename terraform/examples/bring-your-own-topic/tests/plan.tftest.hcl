# The example plans, on an account whose data are given.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

variables {
  region = "eu-central-1"
  bucket = "my-fleet"

}

run "it_plans" {
  command = plan

  assert {
    condition     = module.remote.key == "npcnix/remotes/dev.npcnix" && module.remote.events
    error_message = "The remote is not where it should be, or has no events."
  }
  assert {
    condition     = length(module.store.topic_arns) == 0 && length(module.store.notification_topics) == 0
    error_message = "The store makes topics, though there is one already."
  }
  assert {
    condition     = alltrue([for b in [aws_s3_bucket_public_access_block.store] : b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets])
    error_message = "The bucket may be made public."
  }
}
