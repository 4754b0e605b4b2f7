# Plans with the real provider, which makes no requests: credentials and account are given.

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

variables {
  bucket  = { id = "my.fleet", arn = "arn:aws:s3:::my.fleet", region = "eu-central-1" }
  prefix  = "npcnix/remotes"
  remotes = ["dev", "prod"]
}

run "each_remote_has_a_topic_and_the_bucket_one_notification" {
  command = plan
  variables {
    tags = { team = "blue" }
  }

  assert {
    condition     = { for name, topic in aws_sns_topic.remote : name => topic.name } == { for name in ["dev", "prod"] : name => "npcnix-my-fleet-npcnix-remotes-${name}-${substr(sha256("s3://my.fleet/npcnix/remotes/${name}.npcnix"), 0, 8)}" }
    error_message = "The topics are not one per remote, named for bucket, prefix and remote, with a hash of its URL."
  }
  assert {
    condition     = alltrue([for topic in aws_sns_topic.remote : topic.fifo_topic == false && topic.kms_master_key_id == null])
    error_message = "A topic is not a standard one, or has a key that nobody asked for."
  }
  assert {
    condition     = aws_sns_topic.remote["dev"].tags == tomap({ team = "blue", "npcnix:remote" = "s3://my.fleet/npcnix/remotes/dev.npcnix" })
    error_message = "The topic's tags are not the given ones and the remote's URL."
  }
  assert {
    condition = [for topic in aws_s3_bucket_notification.store[0].topic : [topic.id, topic.filter_prefix, topic.filter_suffix, tolist(topic.events)]] == [
      ["npcnix-dev", "npcnix/remotes/dev.npcnix", ".npcnix", tolist(["s3:ObjectCreated:*"])],
      ["npcnix-prod", "npcnix/remotes/prod.npcnix", ".npcnix", tolist(["s3:ObjectCreated:*"])],
    ]
    error_message = "The notification does not tell each topic of exactly its remote's key."
  }
  assert {
    condition     = length(aws_s3_bucket_notification.store) == 1 && aws_s3_bucket_notification.store[0].bucket == "my.fleet" && !aws_s3_bucket_notification.store[0].eventbridge
    error_message = "There is not one notification, on the bucket."
  }
  assert {
    condition     = output.events && output.region == "eu-central-1" && output.prefix == "npcnix/remotes" && output.bucket.id == "my.fleet" && output.kms_key_arn == null
    error_message = "The outputs do not say what was given."
  }
  assert {
    condition     = { for name, remote in output.remotes : name => [remote.filename, remote.key, remote.url] } == { dev = ["dev.npcnix", "npcnix/remotes/dev.npcnix", "s3://my.fleet/npcnix/remotes/dev.npcnix"], prod = ["prod.npcnix", "npcnix/remotes/prod.npcnix", "s3://my.fleet/npcnix/remotes/prod.npcnix"] }
    error_message = "The remotes' file names, keys or URLs are wrong."
  }
  assert {
    condition     = length(aws_kms_key.store) == 0
    error_message = "A key was made that nobody asked for."
  }
}

run "the_notification_of_a_bucket_with_an_owner_is_left_to_it" {
  command = plan
  variables {
    manage_notification = false
  }

  assert {
    condition     = length(aws_s3_bucket_notification.store) == 0 && length(aws_sns_topic.remote) == 2 && length(aws_sns_topic_policy.remote) == 2
    error_message = "The notification was written, or the topics were not made."
  }
  assert {
    condition     = [for topic in output.notification_topics : [topic.id, topic.filter_prefix, topic.filter_suffix, topic.events]] == [for name in ["dev", "prod"] : ["npcnix-${name}", "npcnix/remotes/${name}.npcnix", ".npcnix", ["s3:ObjectCreated:*"]]]
    error_message = "The blocks to merge are not those of a topic per remote."
  }
}

run "a_store_without_events_makes_nothing" {
  command = plan
  variables {
    events = false
  }

  assert {
    condition     = length(aws_sns_topic.remote) + length(aws_sns_topic_policy.remote) + length(aws_s3_bucket_notification.store) + length(aws_kms_key.store) == 0
    error_message = "Something was made for a store that is polled."
  }
  assert {
    condition     = !output.events && output.topic_arns == {} && output.notification_topics == [] && alltrue([for remote in output.remotes : remote.topic_arn == null]) && length(output.remotes) == 2
    error_message = "The outputs tell of topics, or not of the remotes."
  }
}

run "names_that_differ_in_a_dot_have_topics_of_their_own" {
  command = plan
  variables {
    remotes = ["a.b", "a-b"]
  }

  assert {
    condition     = length(distinct([for topic in aws_sns_topic.remote : topic.name])) == 2
    error_message = "Two remotes share a topic."
  }
}

run "a_bucket_of_another_partition_and_no_remotes_in_a_notification_that_is_not_ours_are_fine" {
  command = plan
  variables {
    bucket              = { id = "my.fleet", arn = "arn:aws-cn:s3:::my.fleet", region = "eu-central-1" }
    remotes             = []
    manage_notification = false
  }

  assert {
    condition     = length(output.remotes) == 0 && length(aws_s3_bucket_notification.store) == 0
    error_message = "Something was made."
  }
}

# Bad input.

run "a_bucket_of_another_region_is_refused" {
  command = plan
  variables {
    bucket = { id = "my.fleet", arn = "arn:aws:s3:::my.fleet", region = "us-east-1" }
  }
  expect_failures = [output.region]
}

run "a_leading_slash_and_a_name_in_capitals_are_refused" {
  command = plan
  variables {
    prefix  = "/npcnix"
    remotes = ["dev", "Prod"]
  }
  expect_failures = [var.prefix, var.remotes]
}

run "a_trailing_slash_and_names_of_which_one_key_begins_another_are_refused" {
  command = plan
  variables {
    prefix  = "npcnix/"
    remotes = ["dev", "dev.npcnix.acks"]
  }
  expect_failures = [var.prefix, var.remotes]
}

run "a_prefix_that_a_policy_would_read_as_a_pattern_and_a_notification_without_entries_are_refused" {
  command = plan
  variables {
    prefix  = "npcnix/*"
    remotes = []
  }
  expect_failures = [var.prefix, var.remotes]
}

run "an_arn_of_another_bucket_is_refused" {
  command = plan
  variables {
    bucket = { id = "my.fleet", arn = "arn:aws:s3:::my-fleet", region = "eu-central-1" }
  }
  expect_failures = [var.bucket]
}

run "a_policy_of_other_services_or_with_the_sid_of_the_module_is_refused" {
  command = plan
  variables {
    topic_policy_statements = {
      BucketPublishes = {
        actions    = ["sqs:SendMessage"]
        principals = []
      }
    }
  }
  expect_failures = [var.topic_policy_statements]
}

run "two_keys_and_an_alias_are_refused" {
  command = plan
  variables {
    kms         = true
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/mine"
  }
  expect_failures = [var.kms_key_arn]
}

run "a_window_that_kms_does_not_accept_is_refused" {
  command = plan
  variables {
    kms                             = true
    kms_key_deletion_window_in_days = 3
  }
  expect_failures = [var.kms_key_deletion_window_in_days]
}

run "a_bucket_tells_eventbridge_if_asked_to_also_without_topics" {
  command = plan
  variables {
    events      = false
    eventbridge = true
  }

  assert {
    condition     = aws_s3_bucket_notification.store[0].eventbridge && length(aws_s3_bucket_notification.store[0].topic) == 0 && output.eventbridge
    error_message = "The bucket's notification does not switch EventBridge on, or has more than that."
  }
}

run "history_keeps_versions_and_not_those_of_records" {
  command = plan
  variables {
    history = { newest = 5 }
  }

  assert {
    condition     = aws_s3_bucket_versioning.store[0].versioning_configuration[0].status == "Enabled" && aws_s3_bucket_versioning.store[0].bucket == "my.fleet"
    error_message = "Versioning is not switched on."
  }
  assert {
    condition = jsonencode([for rule in aws_s3_bucket_lifecycle_configuration.store[0].rule : [rule.id, rule.status, rule.filter[0].prefix, rule.noncurrent_version_expiration[0].noncurrent_days, rule.noncurrent_version_expiration[0].newer_noncurrent_versions]]) == jsonencode([
      ["publishes", "Enabled", "npcnix/remotes/", 90, 5],
      ["records-of-dev", "Enabled", "npcnix/remotes/dev.npcnix.acks/", 1, null],
      ["records-of-prod", "Enabled", "npcnix/remotes/prod.npcnix.acks/", 1, null],
    ])
    error_message = "The lifecycle does not keep publishes for 90 days and the five newest for ever, and versions of records for a day."
  }
}

run "without_history_the_buckets_owner_decides" {
  command = plan

  assert {
    condition     = length(aws_s3_bucket_versioning.store) == 0 && length(aws_s3_bucket_lifecycle_configuration.store) == 0
    error_message = "The bucket's versioning or lifecycle is changed."
  }
}

run "a_history_that_s3_does_not_accept_is_refused" {
  command = plan
  variables {
    history = { days = 0, newest = 101 }
  }
  expect_failures = [var.history]
}

run "accounts_that_name_nobody_are_refused" {
  command = plan
  variables {
    accounts = { dev = [] }
  }
  expect_failures = [var.accounts]
}

run "accounts_of_an_unknown_remote_and_what_is_no_account_are_refused" {
  command = plan
  variables {
    accounts = { other = ["123"] }
  }
  expect_failures = [var.accounts]
}

run "with_eventbridge_and_the_notification_of_an_owner_there_are_rules_alone" {
  command = plan
  variables {
    events              = "eventbridge"
    manage_notification = false
  }

  assert {
    condition     = length(aws_s3_bucket_notification.store) == 0 && length(aws_cloudwatch_event_rule.remote) == 2 && alltrue([for rule in aws_cloudwatch_event_rule.remote : length(rule.name) <= 64])
    error_message = "The owner's notification is overwritten, or not each remote has a rule."
  }
}

run "events_of_another_kind_are_refused" {
  command = plan
  variables {
    events = "sqs"
  }
  expect_failures = [var.events]
}
