# The key of topics and queues. S3, or EventBridge, encrypts what it publishes; SNS decrypts that and encrypts what it sends to a
# queue. S3 and SNS may do so only for this account. Everybody else needs IAM: the policies of host_policy and gate; other
# accounts may only use it through S3 and SQS.

locals {
  follower_accounts = sort(distinct(local.followers[*].id))

  kms_key_arn = var.kms ? one(aws_kms_key.store[*].arn) : var.kms_key_arn
  account     = data.aws_caller_identity.current.account_id

  # Of no key: the policy of a key given as kms_key_arn is made of them, and a key cannot come before itself.
  # For EventBridge without a condition: aws:SourceArn and aws:SourceAccount are not supported from there to encrypted
  # topics (Amazon SNS Developer Guide, "Key management").
  kms_key_statements = concat([for service in local.by_rule ? ["events.amazonaws.com"] : [] : {
    Sid       = "RulesPublish"
    Effect    = "Allow"
    Principal = { Service = service }
    Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
    Resource  = "*"
    }], [for bucket in local.by_rule ? [] : [var.bucket.arn] : {
    Sid       = "BucketPublishes"
    Effect    = "Allow"
    Principal = { Service = "s3.amazonaws.com" }
    Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
    Resource  = "*"
    Condition = {
      ArnLike      = { "aws:SourceArn" = bucket }
      StringEquals = { "aws:SourceAccount" = local.account }
    }
    }], [
    {
      Sid       = "TopicsSendToQueues"
      Effect    = "Allow"
      Principal = { Service = "sns.amazonaws.com" }
      Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
      Resource  = "*"
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:sns:${local.region}:${local.account}:*" }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    },
    ], [for ids in [local.follower_accounts] : {
      Sid       = "AccountsDecrypt"
      Effect    = "Allow"
      Principal = { AWS = [for id in ids : "arn:${local.partition}:iam::${id}:root"] }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
      Condition = { StringLike = { "kms:ViaService" = ["s3.${local.region}.*", "sqs.${local.region}.*"] } }
  } if length(ids) > 0])
}

# Not from a topic's ARN: the topics need the key, and the key its policy.
data "aws_caller_identity" "current" {}

resource "aws_kms_key" "store" {
  count = var.kms ? 1 : 0

  description             = "npcnix: topics and queues of the remotes in s3://${var.bucket.id}/${var.prefix}"
  enable_key_rotation     = true
  deletion_window_in_days = var.kms_key_deletion_window_in_days
  tags                    = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "AccountDecidesByIAM"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
        Action    = "kms:*"
        Resource  = "*"
      }],
      local.kms_key_statements,
    )
  })
}
