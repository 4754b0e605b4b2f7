# What npcnix hosts gc may do. It needs no more to know who is alive: the instances come from elsewhere.

locals {
  # As hosts name the queues that they make: events.OwnQueueName.
  own_queues = "arn:${local.partition}:sqs:${var.remote.region}:${coalesce(local.account, "none")}:npcnix-${substr(local.plain, 0, 30)}-*"

  collect_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "ListRecords"
          Effect    = "Allow"
          Action    = ["s3:ListBucket"]
          Resource  = var.remote.bucket.arn
          Condition = { StringLike = { "s3:prefix" = "${var.remote.key}.acks/*" } }
        },
        {
          Sid      = "DeleteRecords"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:DeleteObject"]
          Resource = "${local.object}.acks/*"
        },
        {
          # AWS knows no resource for these two.
          Sid      = "FindQueuesAndUnsubscribe"
          Effect   = "Allow"
          Action   = ["sqs:ListQueues", "sns:Unsubscribe"]
          Resource = "*"
        },
        {
          Sid      = "DeleteQueues"
          Effect   = "Allow"
          Action   = ["sqs:ListQueueTags", "sqs:GetQueueAttributes", "sqs:DeleteQueue"]
          Resource = local.own_queues
        },
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
        Action   = ["kms:Decrypt"]
        Resource = var.remote.kms_key_arn
      }],
    )
  })
}
