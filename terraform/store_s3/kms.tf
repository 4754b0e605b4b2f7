# The key of topics and queues. S3 encrypts what it publishes, and SNS reads that and encrypts what it sends
# to a queue; each only for this account. Who else may use the key, IAM says: the policies of host_policy and
# gate.
resource "aws_kms_key" "store" {
  count = var.kms ? 1 : 0

  description         = "npcnix: topics and queues of the remotes in s3://${var.bucket.id}/${var.prefix}"
  enable_key_rotation = true
  tags                = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AccountDecidesByIAM"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
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
          ArnLike      = { "aws:SourceArn" = var.bucket.arn }
          StringEquals = { "aws:SourceAccount" = local.account }
        }
      },
      {
        Sid       = "TopicsSendToQueues"
        Effect    = "Allow"
        Principal = { Service = "sns.amazonaws.com" }
        Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
        Resource  = "*"
        Condition = {
          ArnLike = { "aws:SourceArn" = "arn:${local.partition}:sns:${local.region}:${local.account}:*" }
        }
      },
    ]
  })
}
