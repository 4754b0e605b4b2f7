# A bucket's prefix as a store of remotes. A topic per remote hears of its publishes; who follows the
# remote subscribes a queue to it.

data "aws_region" "current" {}

data "aws_caller_identity" "current" {
  count = var.events || var.kms ? 1 : 0
}

locals {
  region    = data.aws_region.current.id
  partition = split(":", var.bucket.arn)[1]
  account   = one(data.aws_caller_identity.current[*].account_id)

  # A topic's name has dashes for what it cannot have; the hash tells the bucket a.b from a-b.
  keys = { for name in var.remotes : name => "${var.prefix}/${name}.npcnix" }
  topics = var.events ? { for name, key in local.keys :
    name => "${replace("npcnix-${var.bucket.id}-${var.prefix}-${name}", "/[^A-Za-z0-9_-]/", "-")}-${substr(sha256("s3://${var.bucket.id}/${key}"), 0, 8)}"
  } : {}
}

resource "aws_sns_topic" "remote" {
  for_each = local.topics

  name              = each.value
  kms_master_key_id = one(aws_kms_key.store[*].arn)
  tags              = merge(var.tags, { "npcnix:remote" = "s3://${var.bucket.id}/${local.keys[each.key]}" })
}

resource "aws_sns_topic_policy" "remote" {
  for_each = local.topics

  arn = aws_sns_topic.remote[each.key].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "BucketPublishes"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.remote[each.key].arn
      Condition = {
        ArnLike      = { "aws:SourceArn" = var.bucket.arn }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })
}

locals {
  # The acknowledgement records, <key>.acks/<host>.json, begin with the key too; the suffix keeps them out.
  notification_topics = [for name in sort(keys(local.topics)) : {
    id            = "npcnix-${name}"
    topic_arn     = aws_sns_topic.remote[name].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = local.keys[name]
    filter_suffix = ".npcnix"
  }]
}

# S3 asks the topic whether it may publish when this is written, so the policies come first.
resource "aws_s3_bucket_notification" "store" {
  count = var.events && var.manage_notification ? 1 : 0

  bucket = var.bucket.id

  dynamic "topic" {
    for_each = local.notification_topics
    content {
      id            = topic.value.id
      topic_arn     = topic.value.topic_arn
      events        = topic.value.events
      filter_prefix = topic.value.filter_prefix
      filter_suffix = topic.value.filter_suffix
    }
  }

  depends_on = [aws_sns_topic_policy.remote]
}
