# What one host may do, and no more. It needs no s3:ListBucket, because it names the two objects it uses.

locals {
  # The hash distinguishes hosts of two stores in which remotes and hosts have the same names.
  name = "npcnix-${var.remote.name}@${var.host}-${substr(sha256("${var.remote.url}/${var.host}"), 0, 8)}"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "FetchRemote"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = "${var.remote.bucket.arn}/${var.remote.key}"
        },
        {
          Sid      = "WriteOwnRecord"
          Effect   = "Allow"
          Action   = ["s3:PutObject"]
          Resource = [for folder in ["", "failed/", "recovered/"] : "${var.remote.bucket.arn}/${var.remote.key}.acks/${folder}${var.host}.json"]
        },
      ],
      var.queue == null ? [] : [{
        Sid      = "ReceiveFromOwnQueue"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
        Resource = var.queue.arn
      }],
      var.remote.kms_key_arn == null ? [] : [{
        Sid      = "UseStoreKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = var.remote.kms_key_arn
      }],
      [for key in compact([try(var.queue.kms_key_arn, null)]) : {
        Sid      = "UseQueueKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = key
      } if key != var.remote.kms_key_arn],
    )
  })
}

resource "aws_iam_policy" "host" {
  count = var.create ? 1 : 0

  name        = local.name
  path        = var.path
  description = "What host ${var.host} needs to follow ${var.remote.url}"
  policy      = local.policy
  tags        = merge(var.tags, { "npcnix:host" = var.host, "npcnix:remote" = var.remote.url })
}
