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
  host = "web1"
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

run "a_host_has_a_queue_dead_letters_and_a_subscription" {
  command = plan
  variables {
    tags = { team = "blue" }
  }

  assert {
    condition     = [aws_sqs_queue.host.name, output.queue_name, aws_sqs_queue.dead_letter.name] == [for end in ["", "", "-dead"] : "npcnix-dev-web1-${substr(sha256("s3://my-fleet/npcnix/remotes/dev.npcnix/web1"), 0, 8)}${end}"]
    error_message = "The queues are not named for remote and host, with a hash of the URL and the host."
  }
  assert {
    condition     = [aws_sqs_queue.host.receive_wait_time_seconds, aws_sqs_queue.host.visibility_timeout_seconds, aws_sqs_queue.host.message_retention_seconds, aws_sqs_queue.dead_letter.message_retention_seconds] == [20, 120, 1209600, 1209600]
    error_message = "The receive wait is not 20 s, the lease not 2 minutes, or the retention not 14 days."
  }
  assert {
    condition     = output.lease_secs == 120
    error_message = "The lease is not given out."
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.host, aws_sqs_queue.dead_letter] : queue.sqs_managed_sse_enabled && queue.kms_master_key_id == null && !queue.fifo_queue])
    error_message = "A queue is not a standard one encrypted by SQS."
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.host, aws_sqs_queue.dead_letter] : queue.tags == tomap({ team = "blue", "npcnix:host" = "web1", "npcnix:remote" = "s3://my-fleet/npcnix/remotes/dev.npcnix" })])
    error_message = "A queue's tags are not the given ones, the host and the remote's URL."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.queue) == 0 && length(output.alarm_names) == 0 && output.host == "web1"
    error_message = "There are alarms that nobody asked for."
  }
}

run "lease_count_key_and_alarms_as_given" {
  command = plan
  variables {
    lease_secs        = 300
    max_receive_count = 20
    alarms            = { actions = ["arn:aws:sns:eu-central-1:123456789012:pager"], oldest_message_secs = 900 }
    remote = {
      name        = "dev"
      filename    = "dev.npcnix"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region      = "eu-central-1"
      events      = true
      topic_arn   = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
  }

  assert {
    condition     = aws_sqs_queue.host.visibility_timeout_seconds == 300 && output.lease_secs == 300
    error_message = "The lease is not the given one."
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.host, aws_sqs_queue.dead_letter] : queue.kms_master_key_id == var.remote.kms_key_arn])
    error_message = "A queue is not encrypted with the store's key."
  }
  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.queue : name => [alarm.alarm_name, alarm.namespace, alarm.metric_name, alarm.dimensions.QueueName, alarm.comparison_operator, alarm.threshold] } == {
      dead-letters   = ["${output.queue_name}-dead-letters", "AWS/SQS", "ApproximateNumberOfMessagesVisible", "${output.queue_name}-dead", "GreaterThanThreshold", 0]
      oldest-message = ["${output.queue_name}-oldest-message", "AWS/SQS", "ApproximateAgeOfOldestMessage", output.queue_name, "GreaterThanThreshold", 900]
    }
    error_message = "The alarms are not: dead letters above 0, the oldest message above 900 s."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.queue : alarm.alarm_actions == toset(var.alarms.actions) && alarm.ok_actions == toset(var.alarms.actions) && alarm.treat_missing_data == "notBreaching"])
    error_message = "An alarm does not tell whom it should, or goes off for a queue that SQS says nothing of."
  }
}

run "dots_become_dashes_and_a_hash" {
  command = plan
  variables {
    host = "web1.example"
  }

  assert {
    condition     = aws_sqs_queue.host.name == "npcnix-dev-web1-example-${substr(sha256("s3://my-fleet/npcnix/remotes/dev.npcnix/web1.example"), 0, 8)}" && aws_sqs_queue.dead_letter.name == "${aws_sqs_queue.host.name}-dead"
    error_message = "The queue of web1.example is not told from that of web1-example."
  }
}

run "a_remote_with_a_dash_is_told_from_a_host_with_one" {
  command = plan
  variables {
    host = "web1"
    remote = {
      name      = "dev-eu"
      filename  = "dev-eu.npcnix"
      bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key       = "npcnix/remotes/dev-eu.npcnix"
      url       = "s3://my-fleet/npcnix/remotes/dev-eu.npcnix"
      region    = "eu-central-1"
      events    = true
      topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
    }
  }

  assert {
    condition     = aws_sqs_queue.host.name == "npcnix-dev-eu-web1-${substr(sha256("s3://my-fleet/npcnix/remotes/dev-eu.npcnix/web1"), 0, 8)}"
    error_message = "Host web1 of dev-eu is not told from host eu-web1 of dev."
  }
}

# Bad input.

run "a_queue_for_a_remote_without_events_is_refused" {
  command = plan
  variables {
    remote = {
      name     = "dev"
      filename = "dev.npcnix"
      bucket   = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key      = "npcnix/remotes/dev.npcnix"
      url      = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region   = "eu-central-1"
      events   = false
    }
  }
  expect_failures = [var.remote]
}

run "a_host_name_too_long_for_a_queue_is_refused" {
  command = plan
  variables {
    host = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" # one more than fits
  }
  expect_failures = [aws_sqs_queue.dead_letter]
}

run "the_longest_host_name_fits" {
  command = plan
  variables {
    host = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }
  assert {
    condition     = length(aws_sqs_queue.dead_letter.name) == 80
    error_message = "A name is refused that SQS takes."
  }
}

run "two_stores_with_the_same_names_share_no_queue" {
  command = plan
  variables {
    remote = {
      name      = "dev"
      filename  = "dev.npcnix"
      bucket    = { id = "my-other-fleet", arn = "arn:aws:s3:::my-other-fleet" }
      key       = "npcnix/remotes/dev.npcnix"
      url       = "s3://my-other-fleet/npcnix/remotes/dev.npcnix"
      region    = "eu-central-1"
      events    = true
      topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-other-fleet-npcnix-remotes-dev"
    }
  }
  assert {
    condition     = output.queue_name == "npcnix-dev-web1-${substr(sha256("s3://my-other-fleet/npcnix/remotes/dev.npcnix/web1"), 0, 8)}"
    error_message = "Host web1 of another bucket's dev has the same queue."
  }
}

run "a_subscription_with_a_provider_of_another_region_is_refused" {
  command = plan
  override_data {
    target = data.aws_service.sqs
    values = { region = "us-east-1" }
  }
  expect_failures = [aws_sns_topic_subscription.host]
}

run "a_queue_in_another_region_that_is_subscribed_elsewhere_is_fine" {
  command = plan
  variables {
    subscribe = false
  }
  override_data {
    target = data.aws_service.sqs
    values = { region = "us-east-1" }
  }

  assert {
    condition     = length(aws_sns_topic_subscription.host) == 0 && length(aws_sqs_queue_policy.topic_sends) == 2
    error_message = "It is subscribed, or the topic cannot send."
  }
}

run "the_key_of_another_region_is_refused" {
  command = plan
  variables {
    subscribe = false
    remote = {
      name        = "dev"
      filename    = "dev.npcnix"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region      = "eu-central-1"
      events      = true
      topic_arn   = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
  }
  override_data {
    target = data.aws_service.sqs
    values = { region = "us-east-1" }
  }
  expect_failures = [aws_sqs_queue.dead_letter]
}

run "without_a_key_of_that_region_sqs_encrypts" {
  command = plan
  variables {
    subscribe   = false
    kms_key_arn = ""
    remote = {
      name        = "dev"
      filename    = "dev.npcnix"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region      = "eu-central-1"
      events      = true
      topic_arn   = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
  }
  override_data {
    target = data.aws_service.sqs
    values = { region = "us-east-1" }
  }

  assert {
    condition     = aws_sqs_queue.host.sqs_managed_sse_enabled && aws_sqs_queue.host.kms_master_key_id == null
    error_message = "The queue is not encrypted by SQS itself."
  }
}

run "an_account_that_the_store_does_not_admit_is_refused" {
  command = plan
  variables {
    remote = {
      name      = "dev"
      filename  = "dev.npcnix"
      bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key       = "npcnix/remotes/dev.npcnix"
      url       = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region    = "eu-central-1"
      events    = true
      topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      accounts  = ["333333333333"]
    }
  }
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "210987654321" }
  }
  expect_failures = [aws_sqs_queue.dead_letter]
}

run "an_account_that_the_store_admits_has_queues_of_its_own" {
  command = plan
  variables {
    remote = {
      name      = "dev"
      filename  = "dev.npcnix"
      bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key       = "npcnix/remotes/dev.npcnix"
      url       = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region    = "eu-central-1"
      events    = true
      topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      accounts  = ["210987654321", "333333333333"]
    }
  }
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "210987654321" }
  }

  assert {
    condition     = aws_sns_topic_subscription.host[0].topic_arn == var.remote.topic_arn
    error_message = "The queue is not subscribed to the topic of the other account."
  }
}

run "of_another_account_whose_store_says_nothing_a_plan_says_what_it_must_grant" {
  command = plan
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "210987654321" }
  }
  expect_failures = [check.other_account]
}

run "a_host_name_with_a_slash_is_refused" {
  command = plan
  variables {
    host = "web/1"
  }
  expect_failures = [var.host]
}

run "numbers_that_sqs_does_not_take_are_refused" {
  command = plan
  variables {
    lease_secs        = 43201
    max_receive_count = 4
  }
  expect_failures = [var.lease_secs, var.max_receive_count]
}
