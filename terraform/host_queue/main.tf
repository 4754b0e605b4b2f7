# How one host hears of publishes: a queue subscribed to the remote's topic, a dead-letter queue to raise alarms from,
# and the policy of exactly this host.

locals {
  # SQS returns the existing queue to whoever creates one of the same name. The hash of the remote's URL and the host
  # keeps one host from getting the queue of another, in this store or the next. A queue's name has no dots.
  plain            = "npcnix-${var.remote.name}-${var.host}"
  name             = "${replace(local.plain, ".", "-")}-${substr(sha256("${var.remote.url}/${var.host}"), 0, 8)}"
  dead_letter_name = "${local.name}-dead"
  longest          = length(local.plain) + 9 + 5 # of dead_letter_name; known at plan even if the URL is not

  kms_key_arn   = var.kms_key_arn == null ? var.remote.kms_key_arn : var.kms_key_arn == "" ? null : var.kms_key_arn
  kms_region    = try(split(":", local.kms_key_arn)[3], null)
  topic_account = try(split(":", var.remote.topic_arn)[4], null)
  topic_region  = try(split(":", var.remote.topic_arn)[3], null)
  queue_region  = split(":", aws_sqs_queue.host.arn)[3]

  # Between two regions of which one must be opted in to, SNS comes under a name of its own (Amazon SNS developer guide,
  # "Sending messages to an Amazon SQS queue in a different Region"). Regions that need no opting in are no longer added.
  opted_in = { for region in distinct([local.queue_region, local.topic_region]) : region => !can(regex("^(cn|us-gov)-", region)) && !contains([
    "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1",
    "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
  ], region) }
  sns = (local.queue_region == local.topic_region ? "sns.amazonaws.com"
    : local.opted_in[local.queue_region] ? "sns.${local.queue_region}.amazonaws.com"
    : local.opted_in[local.topic_region] ? "sns.${local.topic_region}.amazonaws.com"
  : "sns.amazonaws.com")

  retention_secs = 14 * 24 * 60 * 60 # the limit of SQS
  tags           = merge(var.tags, { "npcnix:host" = var.host, "npcnix:remote" = var.remote.url })
}

# Only for the preconditions: nothing else may depend on a data source (see store_s3).

data "aws_service" "sqs" {
  service_id = "sqs"
}

data "aws_caller_identity" "current" {}

resource "aws_sqs_queue" "dead_letter" {
  name                      = local.dead_letter_name
  message_retention_seconds = local.retention_secs
  sqs_managed_sse_enabled   = local.kms_key_arn == null ? true : null
  kms_master_key_id         = local.kms_key_arn
  tags                      = local.tags

  lifecycle {
    precondition {
      condition     = local.longest <= 80
      error_message = "The host name \"${var.host}\" is too long: its dead-letter queue would be \"${replace(local.plain, ".", "-")}-<hash>-dead\" of ${local.longest} characters, but SQS allows 80. Shorten the name of the host or of the remote by ${local.longest - 80}."
    }
    precondition {
      condition     = local.kms_region == null || local.kms_region == data.aws_service.sqs.region
      error_message = "The key of the queues is in ${coalesce(local.kms_region, "no region")}, but the queues are in ${data.aws_service.sqs.region}, and SQS uses keys of its own region only. Set kms_key_arn to a key in ${data.aws_service.sqs.region} whose policy has the output kms_key_statements, or to \"\" for the encryption of SQS itself."
    }
    precondition {
      condition     = local.topic_account == data.aws_caller_identity.current.account_id || var.remote.accounts == null || contains(coalesce(var.remote.accounts, []), data.aws_caller_identity.current.account_id)
      error_message = "The topic of remote \"${var.remote.name}\" belongs to the account ${local.topic_account}, but the provider works in ${data.aws_caller_identity.current.account_id}, which its store does not admit. In module store_s3 of ${local.topic_account}, set accounts = { \"${var.remote.name}\" = [\"${data.aws_caller_identity.current.account_id}\"] }: then the topic lets it subscribe, the bucket lets its hosts read and write records, and the key, if there is one, lets them decrypt. Here, nothing else is needed. Or pass this module a provider for ${local.topic_account}."
    }
  }
}

# A remote that does not come from module remote_s3 need not say whom its store admits.
check "other_account" {
  assert {
    condition     = var.remote.accounts != null || local.topic_account == data.aws_caller_identity.current.account_id
    error_message = "The account ${local.topic_account} must admit ${data.aws_caller_identity.current.account_id}. Its topic ${coalesce(var.remote.topic_arn, "of the remote")} must allow it sns:Subscribe; its bucket ${var.remote.bucket.id} s3:GetObject on ${var.remote.key} and s3:PutObject on ${var.remote.key}.acks/*; a key of bucket or queues kms:Decrypt and kms:GenerateDataKey. The input accounts of module store_s3 does that; its output accounts, given here in remote, ends this warning."
  }
}

resource "aws_sqs_queue" "host" {
  name                       = local.name
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = var.lease_secs
  message_retention_seconds  = local.retention_secs
  sqs_managed_sse_enabled    = local.kms_key_arn == null ? true : null
  kms_master_key_id          = local.kms_key_arn
  tags                       = local.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letter.arn
    maxReceiveCount     = var.max_receive_count
  })
}

# The topic also sends to the dead-letter queue: what SNS could not deliver, by the subscription's redrive policy.
resource "aws_sqs_queue_policy" "topic_sends" {
  for_each = { host = aws_sqs_queue.host, dead_letter = aws_sqs_queue.dead_letter }

  queue_url = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TopicSends"
      Effect    = "Allow"
      Principal = { Service = local.sns }
      Action    = "sqs:SendMessage"
      Resource  = each.value.arn
      Condition = { ArnEquals = { "aws:SourceArn" = var.remote.topic_arn } }
    }]
  })
}

resource "aws_sns_topic_subscription" "host" {
  count = var.subscribe ? 1 : 0

  topic_arn            = var.remote.topic_arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.host.arn
  raw_message_delivery = true
  redrive_policy       = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_letter.arn })

  lifecycle {
    precondition {
      condition     = var.remote.region == data.aws_service.sqs.region
      error_message = "The topic of remote \"${var.remote.name}\" is in ${var.remote.region}, but the provider works in ${data.aws_service.sqs.region}, and a subscription is made in the topic's region. Set subscribe = false, and subscribe the queue with a provider for ${var.remote.region} in the queue's account, as the README of host_queue shows. Or pass this module such a provider: a host can receive from a queue in any region."
    }
  }

  depends_on = [aws_sqs_queue_policy.topic_sends]
}

module "policy" {
  source = "../host_policy"

  create = var.create_policy
  remote = var.remote
  host   = var.host
  queue  = { arn = aws_sqs_queue.host.arn, kms_key_arn = local.kms_key_arn }
  path   = var.policy_path
  tags   = var.tags
}
