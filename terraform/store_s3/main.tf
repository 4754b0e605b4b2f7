# A prefix of a bucket is a store of remotes. Each remote has a topic that announces its publishes; whoever follows
# the remote subscribes a queue to it.
#
# Region and account come from the bucket and the topics, not from data sources. With depends_on on this module, a
# change elsewhere defers its data sources to the apply; what they feed is then unknown, and hosts whose user data is
# unknown are planned for replacement.

locals {
  region    = var.bucket.region
  partition = split(":", var.bucket.arn)[1]

  events      = var.events != "false"
  by_rule     = var.events == "eventbridge"
  eventbridge = var.eventbridge || local.by_rule

  keys = { for name in var.remotes : name => "${var.prefix}/${name}.npcnix" }

  # A topic's name has dashes for characters that SNS does not allow; the hash distinguishes the bucket a.b from a-b.
  topics = local.events ? { for name, key in local.keys :
    name => "${replace("npcnix-${var.bucket.id}-${var.prefix}-${name}", "/[^A-Za-z0-9_-]/", "-")}-${substr(sha256("s3://${var.bucket.id}/${key}"), 0, 8)}"
  } : {}
}

# Only for the check of the output region.
data "aws_service" "sqs" {
  service_id = "sqs"
}

resource "aws_sns_topic" "remote" {
  for_each = local.topics

  name              = each.value
  kms_master_key_id = local.kms_key_arn
  tags              = merge(var.tags, { "npcnix:remote" = "s3://${var.bucket.id}/${local.keys[each.key]}" })
}

resource "aws_sns_topic_policy" "remote" {
  for_each = local.topics

  arn = aws_sns_topic.remote[each.key].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      # Without a condition: EventBridge supports none in a topic's policy (EventBridge User Guide, "Using resource-based
      # policies", Amazon SNS permissions). So any rule can publish; that only wakes hosts, which then read the store.
      [for topic in local.by_rule ? [aws_sns_topic.remote[each.key].arn] : [] : {
        Sid       = "RulePublishes"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = topic
      }],
      [for bucket in local.by_rule ? [] : [var.bucket.arn] : {
        Sid       = "BucketPublishes"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.remote[each.key].arn
        Condition = {
          ArnLike      = { "aws:SourceArn" = bucket }
          StringEquals = { "aws:SourceAccount" = split(":", aws_sns_topic.remote[each.key].arn)[4] }
        }
      }],
      [for ids in [local.accounts[each.key]] : {
        Sid       = "AccountsSubscribe"
        Effect    = "Allow"
        Principal = { AWS = [for id in ids : "arn:${local.partition}:iam::${id}:root"] }
        Action    = "sns:Subscribe"
        Resource  = aws_sns_topic.remote[each.key].arn
        Condition = {
          StringEquals = { "sns:Protocol" = "sqs" }
          StringLike   = { "sns:Endpoint" = [for id in ids : "arn:${local.partition}:sqs:*:${id}:*"] }
        }
      } if length(ids) > 0],
      [for ids in [local.accounts[each.key]] : {
        Sid       = "AccountsLook"
        Effect    = "Allow"
        Principal = { AWS = [for id in ids : "arn:${local.partition}:iam::${id}:root"] }
        Action    = ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"]
        Resource  = aws_sns_topic.remote[each.key].arn
      } if length(ids) > 0],
      [for sid, statement in var.topic_policy_statements : merge(
        {
          Sid       = sid
          Effect    = statement.effect
          Principal = { for principal in statement.principals : principal.type => principal.identifiers }
          Action    = statement.actions
          Resource  = aws_sns_topic.remote[each.key].arn
        },
        length(statement.conditions) == 0 ? {} : { Condition = {
          for test in distinct(statement.conditions[*].test) : test => {
            for condition in statement.conditions : condition.variable => condition.values if condition.test == test
          }
        } },
      )],
    )
  })
}

locals {
  # Acknowledgement records, <key>.acks/<host>.json, also begin with the key; the suffix keeps them out.
  notification_topics = [for name in local.by_rule ? [] : sort(keys(local.topics)) : {
    id            = "npcnix-${name}"
    topic_arn     = aws_sns_topic.remote[name].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = local.keys[name]
    filter_suffix = ".npcnix"
  }]
}

# S3 checks that it may publish to the topic when the notification is written, so the policies come first.
resource "aws_s3_bucket_notification" "store" {
  count = (local.events || local.eventbridge) && var.manage_notification ? 1 : 0

  bucket      = var.bucket.id
  eventbridge = local.eventbridge

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
