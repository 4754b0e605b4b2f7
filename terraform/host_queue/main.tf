# One host's way of hearing of publishes: a queue subscribed to the remote's topic, a dead-letter queue
# that is the alarm, and the policy of exactly this host.

data "aws_region" "current" {}

locals {
  # SQS gives the queue that there is to whoever makes one of its name, so the hash of the remote's URL and
  # the host keeps one host's queue from being another's, in this store or the next. A name has no dots.
  plain            = "npcnix-${var.remote.name}-${var.host}"
  name             = "${replace(local.plain, ".", "-")}-${substr(sha256("${var.remote.url}/${var.host}"), 0, 8)}"
  dead_letter_name = "${local.name}-dead"
  longest          = length(local.plain) + 9 + 5 # of dead_letter_name, known at plan though the URL may not be

  retention_secs = 14 * 24 * 60 * 60 # SQS's limit
  tags           = merge(var.tags, { "npcnix:host" = var.host, "npcnix:remote" = var.remote.url })
}

resource "aws_sqs_queue" "dead_letter" {
  name                      = local.dead_letter_name
  message_retention_seconds = local.retention_secs
  sqs_managed_sse_enabled   = var.remote.kms_key_arn == null ? true : null
  kms_master_key_id         = var.remote.kms_key_arn
  tags                      = local.tags

  lifecycle {
    precondition {
      condition     = local.longest <= 80
      error_message = "The host name \"${var.host}\" is too long: its dead-letter queue would be \"${replace(local.plain, ".", "-")}-<hash>-dead\" of ${local.longest} characters, and a queue's name has at most 80. Shorten the host's name, or the remote's, by ${local.longest - 80}."
    }
    precondition {
      condition     = var.remote.region == data.aws_region.current.id
      error_message = "The remote \"${var.remote.name}\" is in ${var.remote.region}, but the provider works in ${data.aws_region.current.id}. Pass this module a provider for ${var.remote.region}, or leave the queue away (queue = false in module instance): the host then polls."
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

# The dead-letter queue takes from the topic too: what SNS could not deliver, by the subscription's redrive.
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

  remote = var.remote
  host   = var.host
  queue  = { arn = aws_sqs_queue.host.arn }
  tags   = var.tags
}
