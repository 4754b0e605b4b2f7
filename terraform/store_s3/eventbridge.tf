# With events = "eventbridge", S3 tells EventBridge of each new object, and a rule for each remote sends what is of its
# key to its topic, as it came. Others can have rules and notifications beside these; none overwrites another.

resource "aws_cloudwatch_event_rule" "remote" {
  for_each = local.by_rule ? local.keys : {}

  # Names of rules have at most 64 characters; the hash distinguishes remotes of the same name in two stores.
  name        = "npcnix-${substr(each.key, 0, 40)}-${substr(sha256("s3://${var.bucket.id}/${each.value}"), 0, 8)}"
  description = "Tells the topic of s3://${var.bucket.id}/${each.value} of a publish"
  event_pattern = jsonencode({
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail = {
      bucket = { name = [var.bucket.id] }
      object = { key = [each.value] }
    }
  })
  tags = merge(var.tags, { "npcnix:remote" = "s3://${var.bucket.id}/${each.value}" })
}

resource "aws_cloudwatch_event_target" "remote" {
  for_each = local.by_rule ? local.keys : {}

  rule      = aws_cloudwatch_event_rule.remote[each.key].name
  target_id = "topic"
  arn       = aws_sns_topic.remote[each.key].arn

  depends_on = [aws_sns_topic_policy.remote]
}
