# How one host hears of publishes: a queue subscribed to the remote's topic, a dead-letter queue to raise alarms from,
# and the policy of exactly this host.

locals {
  # SQS returns the existing queue to whoever creates one of the same name. The hash of the remote's URL and the host
  # keeps one host from getting the queue of another, in this store or the next. A queue's name has no dots.
  plain            = "npcnix-${var.remote.name}-${var.host}"
  name             = "${replace(local.plain, ".", "-")}-${substr(sha256("${var.remote.url}/${var.host}"), 0, 8)}"
  dead_letter_name = "${local.name}-dead"
  longest          = length(local.plain) + 9 + 5 # of dead_letter_name; known at plan even if the URL is not

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
  sqs_managed_sse_enabled   = var.remote.kms_key_arn == null ? true : null
  kms_master_key_id         = var.remote.kms_key_arn
  tags                      = local.tags

  lifecycle {
    precondition {
      condition     = local.longest <= 80
      error_message = "The host name \"${var.host}\" is too long: its dead-letter queue would be \"${replace(local.plain, ".", "-")}-<hash>-dead\" of ${local.longest} characters, but SQS allows 80. Shorten the name of the host or of the remote by ${local.longest - 80}."
    }
    precondition {
      condition     = var.remote.region == data.aws_service.sqs.region
      error_message = "The remote \"${var.remote.name}\" is in ${var.remote.region}, but the provider works in ${data.aws_service.sqs.region}. Pass this module a provider for ${var.remote.region}, or omit the queue (queue = false in module instance); the host then polls."
    }
    precondition {
      condition     = split(":", var.remote.topic_arn)[4] == data.aws_caller_identity.current.account_id
      error_message = "The topic of remote \"${var.remote.name}\" belongs to the account ${split(":", var.remote.topic_arn)[4]}, but the provider works in ${data.aws_caller_identity.current.account_id}. Bucket and topic do not admit another account, so the host would neither hear of publishes nor read them. Pass this module a provider for ${split(":", var.remote.topic_arn)[4]}, or create a store in ${data.aws_caller_identity.current.account_id}."
    }
  }
}

resource "aws_sqs_queue" "host" {
  name                       = local.name
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = var.lease_secs
  message_retention_seconds  = local.retention_secs
  sqs_managed_sse_enabled    = var.remote.kms_key_arn == null ? true : null
  kms_master_key_id          = var.remote.kms_key_arn
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
      Principal = { Service = "sns.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = each.value.arn
      Condition = { ArnEquals = { "aws:SourceArn" = var.remote.topic_arn } }
    }]
  })
}

resource "aws_sns_topic_subscription" "host" {
  topic_arn            = var.remote.topic_arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.host.arn
  raw_message_delivery = true
  redrive_policy       = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_letter.arn })

  depends_on = [aws_sqs_queue_policy.topic_sends]
}

module "policy" {
  source = "../host_policy"

  create = var.create_policy
  remote = var.remote
  host   = var.host
  queue  = { arn = aws_sqs_queue.host.arn }
  path   = var.policy_path
  tags   = var.tags
}
