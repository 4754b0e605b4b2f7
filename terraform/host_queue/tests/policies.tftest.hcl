# What is known only after an apply: policies with the ARNs they name. The provider is a mock.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-central-1" }
  }
}

override_resource {
  target = aws_sqs_queue.host
  values = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1"
    id  = "https://sqs.eu-central-1.amazonaws.com/123456789012/npcnix-dev-web1"
  }
}

override_resource {
  target = aws_sqs_queue.dead_letter
  values = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-dead"
    id  = "https://sqs.eu-central-1.amazonaws.com/123456789012/npcnix-dev-web1-dead"
  }
}

variables {
  host              = "web1"
  max_receive_count = 20
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

run "only_the_topic_sends_and_only_the_host_receives" {
  assert {
    condition     = jsondecode(aws_sqs_queue.host.redrive_policy) == { deadLetterTargetArn = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-dead", maxReceiveCount = 20 }
    error_message = "The queue's dead letters do not go to its dead-letter queue after the given count of receives."
  }
  assert {
    condition = { for name, policy in aws_sqs_queue_policy.topic_sends : name => jsondecode(policy.policy).Statement } == {
      for name, arn in { host = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1", dead_letter = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-dead" } : name => [{
        Sid       = "TopicSends"
        Effect    = "Allow"
        Principal = { Service = "sns.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = arn
        Condition = { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev" } }
      }]
    }
    error_message = "A queue's policy is not: the remote's topic may send to it."
  }
  assert {
    condition     = aws_sqs_queue_policy.topic_sends["host"].queue_url == output.queue_url && aws_sqs_queue_policy.topic_sends["dead_letter"].queue_url == output.dead_letter_queue_url
    error_message = "A policy is on another queue than its own."
  }
  assert {
    condition     = [aws_sns_topic_subscription.host[0].topic_arn, aws_sns_topic_subscription.host[0].protocol, aws_sns_topic_subscription.host[0].endpoint] == [var.remote.topic_arn, "sqs", "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1"] && aws_sns_topic_subscription.host[0].raw_message_delivery
    error_message = "The queue is not subscribed to the topic, raw."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_subscription.host[0].redrive_policy) == { deadLetterTargetArn = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-dead" } && aws_sns_topic_subscription.host[0].filter_policy == null
    error_message = "What SNS cannot deliver does not become a dead letter, or there is a filter."
  }
  assert {
    condition = jsondecode(output.policy_json).Statement == [
      {
        Sid      = "FetchRemote"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix"
      },
      {
        Sid      = "WriteOwnRecord"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = [for folder in ["", "failed/", "recovered/"] : "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix.acks/${folder}web1.json"]
      },
      {
        Sid      = "ReceiveFromOwnQueue"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
        Resource = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1"
      },
    ]
    error_message = "The host's policy allows more or less than its queue, its remote and its record."
  }
  assert {
    condition     = output.queue_arn == "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1" && output.dead_letter_queue_arn == "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-dead"
    error_message = "The queues' ARNs are not given out."
  }
}

run "a_queue_in_another_region_is_subscribed_by_its_owner" {
  variables {
    subscribe   = false
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/near"
  }
  override_data {
    target = data.aws_service.sqs
    values = { region = "us-east-1" }
  }
  override_resource {
    target = aws_sqs_queue.host
    values = { arn = "arn:aws:sqs:us-east-1:123456789012:npcnix-dev-web1" }
  }

  assert {
    condition     = length(aws_sns_topic_subscription.host) == 0 && output.subscription_arn == null && output.topic_arn == var.remote.topic_arn
    error_message = "It is subscribed where the topic is not, or the topic is not output."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_policy.topic_sends["host"].policy).Statement[0].Principal == { Service = "sns.amazonaws.com" }
    error_message = "Between regions that need no opting in, SNS comes under another name."
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.host, aws_sqs_queue.dead_letter] : queue.kms_master_key_id == "arn:aws:kms:us-east-1:123456789012:key/near"])
    error_message = "A queue is not encrypted with the key of its region."
  }
  assert {
    condition     = [for statement in jsondecode(output.policy_json).Statement : [statement.Action, statement.Resource] if statement.Sid == "UseQueueKey"] == [[["kms:Decrypt"], "arn:aws:kms:us-east-1:123456789012:key/near"]]
    error_message = "The host cannot decrypt with the queue's key."
  }
  assert {
    condition     = jsonencode(output.kms_key_statements[0].Condition) == jsonencode({ ArnEquals = { "aws:SourceArn" = var.remote.topic_arn } }) && output.kms_key_statements[0].Principal.Service == "sns.amazonaws.com"
    error_message = "The statements for the key do not admit the topic."
  }
}

run "a_topic_in_a_region_to_opt_in_to_comes_under_the_name_of_that_region" {
  variables {
    subscribe = false
    remote = {
      name      = "dev"
      filename  = "dev.npcnix"
      bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key       = "npcnix/remotes/dev.npcnix"
      url       = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region    = "af-south-1"
      events    = true
      topic_arn = "arn:aws:sns:af-south-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
    }
  }

  assert {
    condition     = jsondecode(aws_sqs_queue_policy.topic_sends["host"].policy).Statement[0].Principal == { Service = "sns.af-south-1.amazonaws.com" }
    error_message = "SNS is not admitted under the name of the topic's region."
  }
}

run "a_policy_that_is_used_inline_is_not_created" {
  variables {
    create_policy = false
  }
  assert {
    condition     = output.policy_arn == null && strcontains(output.policy_json, "sqs:ReceiveMessage") && output.policy_name == "npcnix-dev@web1-${substr(sha256("s3://my-fleet/npcnix/remotes/dev.npcnix/web1"), 0, 8)}"
    error_message = "The policy is created, or its text or name is not output."
  }
}
