# What CI may do: publish to one remote and watch its hosts. It may neither receive or delete messages nor write
# records.

data "aws_caller_identity" "current" {
  count = var.remote.events ? 1 : 0
}

locals {
  object    = "${var.remote.bucket.arn}/${var.remote.key}"
  partition = split(":", var.remote.bucket.arn)[1]
  account   = one(data.aws_caller_identity.current[*].account_id)

  # As host_queue names the queues, and as hosts name those that they make (events.OwnQueueName). They can be in any region.
  plain  = replace(var.remote.name, ".", "-")
  queues = [for name in distinct([local.plain, substr(local.plain, 0, 30)]) : "arn:${local.partition}:sqs:*:${coalesce(local.account, "none")}:npcnix-${name}-*"]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "Publish"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:GetObject"]
          Resource = local.object
        },
        {
          Sid      = "ReadHistory"
          Effect   = "Allow"
          Action   = ["s3:GetObjectVersion"]
          Resource = local.object
        },
        {
          Sid       = "ListHistory"
          Effect    = "Allow"
          Action    = ["s3:ListBucketVersions"]
          Resource  = var.remote.bucket.arn
          Condition = { StringEquals = { "s3:prefix" = var.remote.key } }
        },
        {
          Sid      = "ReadRecords"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = "${local.object}.acks/*"
        },
      ],
      [{
        Sid       = "ListRecords"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = var.remote.bucket.arn
        Condition = { StringLike = { "s3:prefix" = "${var.remote.key}.acks/*" } }
      }],
      !var.remote.events ? [] : [
        {
          Sid      = "ReadQueues"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags"]
          Resource = local.queues
        },
      ],
      !var.remote.events ? [] : [
        {
          Sid      = "ReadSubscriptions"
          Effect   = "Allow"
          Action   = ["sns:ListSubscriptionsByTopic"]
          Resource = var.remote.topic_arn
        },
      ],
      var.remote.kms_key_arn == null ? [] : [{
        Sid      = "UseStoreKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = var.remote.kms_key_arn
      }],
    )
  })
}

resource "aws_iam_policy" "gate" {
  count = var.create ? 1 : 0

  name        = "${var.name_prefix}${var.remote.name}"
  path        = var.path
  description = "Publish to ${var.remote.url} and watch its hosts"
  policy      = local.policy
  tags        = merge(var.tags, { "npcnix:remote" = var.remote.url })
}
