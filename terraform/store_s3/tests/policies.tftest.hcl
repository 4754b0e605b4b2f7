# What is known only after an apply: policies with the ARNs they name. The provider is a mock.

mock_provider "aws" {
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:topic" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/npcnix" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-central-1" }
  }
}

variables {
  bucket  = { id = "my.fleet", arn = "arn:aws:s3:::my.fleet", region = "eu-central-1" }
  prefix  = "npcnix/remotes"
  remotes = ["dev", "prod"]
}

run "a_topic_accepts_only_its_bucket_and_account" {
  assert {
    condition = alltrue([for policy in aws_sns_topic_policy.remote : jsondecode(policy.policy).Statement == [{
      Sid       = "BucketPublishes"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:aws:s3:::my.fleet" }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }
    }]])
    error_message = "The policy of a topic does not allow exactly this bucket of this account to publish."
  }
  assert {
    condition     = length(aws_sns_topic_policy.remote) == 2 && alltrue([for policy in aws_sns_topic_policy.remote : policy.arn == "arn:aws:sns:eu-central-1:123456789012:topic"])
    error_message = "Not each topic has its policy."
  }
  assert {
    condition     = alltrue([for topic in aws_s3_bucket_notification.store[0].topic : topic.topic_arn == "arn:aws:sns:eu-central-1:123456789012:topic"])
    error_message = "The notification goes elsewhere than to the topics."
  }
  assert {
    condition     = output.topic_arns == { for name in ["dev", "prod"] : name => "arn:aws:sns:eu-central-1:123456789012:topic" } && output.remotes.dev.topic_arn == output.topic_arns.dev
    error_message = "The ARNs of the topics are not output."
  }
  assert {
    condition     = output.kms_key_arn == null
    error_message = "A store without a key has one."
  }
}

run "further_statements_are_added_to_each_topic_policy" {
  variables {
    topic_policy_statements = {
      Pipelines = {
        principals = [
          { type = "AWS", identifiers = ["arn:aws:iam::123456789012:role/ci"] },
          { type = "Service", identifiers = ["events.amazonaws.com"] },
        ]
        conditions = [
          { test = "ArnLike", variable = "aws:SourceArn", values = ["arn:aws:events:eu-central-1:123456789012:rule/*"] },
          { test = "StringEquals", variable = "aws:SourceAccount", values = ["123456789012"] },
          { test = "StringEquals", variable = "aws:SourceOrgID", values = ["o-1", "o-2"] },
        ]
      }
      Readers = {
        actions    = ["sns:Subscribe", "sns:GetTopicAttributes"]
        principals = [{ type = "AWS", identifiers = ["210987654321"] }]
      }
    }
  }

  assert {
    condition = alltrue([for policy in aws_sns_topic_policy.remote : jsondecode(policy.policy).Statement[*].Sid == ["BucketPublishes", "Pipelines", "Readers"]
    && jsondecode(policy.policy).Statement[0].Condition.ArnLike == { "aws:SourceArn" = "arn:aws:s3:::my.fleet" }])
    error_message = "The statements are not added to the module's own."
  }
  assert {
    condition = alltrue([for policy in aws_sns_topic_policy.remote : jsondecode(policy.policy).Statement[1] == {
      Sid       = "Pipelines"
      Effect    = "Allow"
      Principal = { AWS = ["arn:aws:iam::123456789012:role/ci"], Service = ["events.amazonaws.com"] }
      Action    = ["sns:Publish"]
      Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
      Condition = {
        ArnLike      = { "aws:SourceArn" = ["arn:aws:events:eu-central-1:123456789012:rule/*"] }
        StringEquals = { "aws:SourceAccount" = ["123456789012"], "aws:SourceOrgID" = ["o-1", "o-2"] }
      }
    }])
    error_message = "A statement does not have the given principals, actions and conditions on the topic."
  }
  assert {
    condition = alltrue([for policy in aws_sns_topic_policy.remote : jsondecode(policy.policy).Statement[2] == {
      Sid       = "Readers"
      Effect    = "Allow"
      Principal = { AWS = ["210987654321"] }
      Action    = ["sns:Subscribe", "sns:GetTopicAttributes"]
      Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
    }])
    error_message = "A statement without conditions has some, or other actions than the given ones."
  }
}

run "a_key_that_is_created_is_for_s3_sns_and_the_account" {
  variables {
    kms = true
  }

  assert {
    condition     = aws_kms_key.store[0].enable_key_rotation && aws_kms_key.store[0].deletion_window_in_days == 30 && output.kms_key_arn == "arn:aws:kms:eu-central-1:123456789012:key/1" && alltrue([for topic in aws_sns_topic.remote : topic.kms_master_key_id == "arn:aws:kms:eu-central-1:123456789012:key/1"])
    error_message = "The key is not rotated, not kept for 30 days, not output, or not used by the topics."
  }
  assert {
    condition = jsondecode(aws_kms_key.store[0].policy).Statement == [
      {
        Sid       = "AccountDecidesByIAM"
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::123456789012:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "BucketPublishes"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
        Resource  = "*"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:s3:::my.fleet" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
      {
        Sid       = "TopicsSendToQueues"
        Effect    = "Allow"
        Principal = { Service = "sns.amazonaws.com" }
        Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
        Resource  = "*"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:sns:eu-central-1:123456789012:*" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
    ]
    error_message = "The policy of the key does not allow exactly the account by IAM, S3 for this bucket, and SNS for the topics of this account."
  }
}

run "a_key_of_ones_own_is_used_and_its_statements_are_output" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/mine"
  }

  assert {
    condition     = length(aws_kms_key.store) == 0 && output.kms_key_arn == "arn:aws:kms:eu-central-1:123456789012:key/mine" && alltrue([for topic in aws_sns_topic.remote : topic.kms_master_key_id == "arn:aws:kms:eu-central-1:123456789012:key/mine"])
    error_message = "A key was created, or the given one is not output or not used by the topics."
  }
  assert {
    condition = jsonencode(output.kms_key_statements) == jsonencode([
      {
        Sid       = "BucketPublishes"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
        Resource  = "*"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:s3:::my.fleet" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
      {
        Sid       = "TopicsSendToQueues"
        Effect    = "Allow"
        Principal = { Service = "sns.amazonaws.com" }
        Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
        Resource  = "*"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:sns:eu-central-1:123456789012:*" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
    ])
    error_message = "The statements for the key's policy are not output."
  }
}

run "the_key_that_was_created_is_kept_for_the_given_days" {
  variables {
    kms                             = true
    kms_key_deletion_window_in_days = 7
  }
  assert {
    condition     = aws_kms_key.store[0].deletion_window_in_days == 7
    error_message = "The window is not the given one."
  }
}

run "other_accounts_subscribe_read_write_records_and_use_the_key" {
  variables {
    kms = true
    accounts = {
      dev = ["210987654321", "333333333333", "arn:aws:iam::444444444444:role/npcnix-*", "arn:aws:iam::444444444444:role/ops"]
    }
  }

  assert {
    condition = slice(jsondecode(aws_sns_topic_policy.remote["dev"].policy).Statement, 1, 3) == [
      {
        Sid       = "AccountsSubscribe"
        Effect    = "Allow"
        Principal = { AWS = [for id in ["210987654321", "333333333333", "444444444444"] : "arn:aws:iam::${id}:root"] }
        Action    = "sns:Subscribe"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
        Condition = {
          StringEquals = { "sns:Protocol" = "sqs" }
          StringLike   = { "sns:Endpoint" = [for id in ["210987654321", "333333333333", "444444444444"] : "arn:aws:sqs:*:${id}:*"] }
        }
      },
      {
        Sid       = "AccountsLook"
        Effect    = "Allow"
        Principal = { AWS = [for id in ["210987654321", "333333333333", "444444444444"] : "arn:aws:iam::${id}:root"] }
        Action    = ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"]
        Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
      },
    ]
    error_message = "The topic does not let exactly these accounts subscribe queues of theirs."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_policy.remote["prod"].policy).Statement[*].Sid == ["BucketPublishes"]
    error_message = "A remote that nobody else follows admits an account."
  }
  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.store[0].policy).Statement : "${statement.Principal.AWS} ${statement.Action} ${statement.Resource} ${jsonencode(try(statement.Condition, {}))}"] == flatten([for id, condition in {
      "210987654321" = "{}"
      "333333333333" = "{}"
      "444444444444" = jsonencode({ ArnLike = { "aws:PrincipalArn" = ["arn:aws:iam::444444444444:role/npcnix-*", "arn:aws:iam::444444444444:role/ops"] } })
      } : [
      "arn:aws:iam::${id}:root s3:GetObject arn:aws:s3:::my.fleet/npcnix/remotes/dev.npcnix ${condition}",
      "arn:aws:iam::${id}:root s3:PutObject arn:aws:s3:::my.fleet/npcnix/remotes/dev.npcnix.acks/* ${condition}",
    ]])
    error_message = "The bucket does not let exactly these accounts, or roles of theirs, read the remote and write its records."
  }
  assert {
    condition     = jsondecode(aws_kms_key.store[0].policy).Statement[3] == { Sid = "AccountsDecrypt", Effect = "Allow", Principal = { AWS = [for id in ["210987654321", "333333333333", "444444444444"] : "arn:aws:iam::${id}:root"] }, Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = "*", Condition = { StringLike = { "kms:ViaService" = ["s3.eu-central-1.*", "sqs.eu-central-1.*"] } } }
    error_message = "The key does not let these accounts decrypt through S3 and SQS."
  }
  assert {
    condition     = join(",", output.remotes.dev.accounts) == "210987654321,333333333333,444444444444" && length(output.remotes.prod.accounts) == 0
    error_message = "The accounts are not output."
  }
}

run "a_bucket_policy_of_somebody_else_is_left_to_its_owner" {
  variables {
    accounts             = { dev = ["210987654321"] }
    manage_bucket_policy = false
  }

  assert {
    condition     = length(aws_s3_bucket_policy.store) == 0 && length(output.bucket_policy_statements) == 2
    error_message = "The bucket's policy is written, or what to add to it is not output."
  }
}

run "with_eventbridge_a_rule_publishes_instead_of_the_bucket" {
  variables {
    events   = "eventbridge"
    kms      = true
    accounts = { dev = ["210987654321"] }
  }

  assert {
    condition = { for name, rule in aws_cloudwatch_event_rule.remote : name => jsondecode(rule.event_pattern) } == { for name in ["dev", "prod"] : name => {
      source        = ["aws.s3"]
      "detail-type" = ["Object Created"]
      detail        = { bucket = { name = ["my.fleet"] }, object = { key = ["npcnix/remotes/${name}.npcnix"] } }
    } }
    error_message = "A rule does not match exactly the publishes to its remote."
  }
  assert {
    condition     = alltrue([for name, target in aws_cloudwatch_event_target.remote : target.rule == aws_cloudwatch_event_rule.remote[name].name && target.arn == aws_sns_topic.remote[name].arn && length(target.input_transformer) == 0])
    error_message = "A rule does not send events, as they are, to the topic of its remote."
  }
  assert {
    condition = jsondecode(aws_sns_topic_policy.remote["prod"].policy).Statement == [{
      Sid       = "RulePublishes"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = "arn:aws:sns:eu-central-1:123456789012:topic"
    }] && jsondecode(aws_sns_topic_policy.remote["dev"].policy).Statement[*].Sid == ["RulePublishes", "AccountsSubscribe", "AccountsLook"]
    error_message = "The policy of a topic does not let exactly EventBridge publish, or has a condition, which EventBridge does not support."
  }
  assert {
    condition     = aws_s3_bucket_notification.store[0].eventbridge && length(aws_s3_bucket_notification.store[0].topic) == 0 && length(output.notification_topics) == 0
    error_message = "The bucket's notification has more than the switch of EventBridge, or lacks it."
  }
  assert {
    condition     = output.events && output.eventbridge && length(output.topic_arns) == 2
    error_message = "The outputs do not tell of topics and of EventBridge."
  }
  assert {
    condition     = [for statement in output.kms_key_statements : [statement.Sid, statement.Principal.Service] if contains(keys(statement.Principal), "Service")] == [["RulesPublish", "events.amazonaws.com"], ["TopicsSendToQueues", "sns.amazonaws.com"]]
    error_message = "The key does not let EventBridge and SNS use it."
  }
  assert {
    condition     = [for statement in concat(output.kms_key_statements, jsondecode(aws_kms_key.store[0].policy).Statement) : keys(statement) if statement.Sid == "RulesPublish"] == [for _ in range(2) : ["Action", "Effect", "Principal", "Resource", "Sid"]]
    error_message = "EventBridge uses the key under a condition, which it does not support."
  }
}
