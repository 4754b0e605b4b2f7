# Tells people of a remote. Hosts write their records at each step and each hour; nobody is told of those. Under
# failed/ and recovered/ they write a copy only when they fail and when they recover, and the rules match only that.

locals {
  # The hash distinguishes remotes of the same name in two stores. Names of rules have at most 64 characters; those of
  # topics and of Slack channels' configurations have no dots.
  name = "npcnix-${replace(substr(var.remote.name, 0, 36), ".", "-")}-${substr(sha256(var.remote.url), 0, 8)}"

  all = {
    published = { key = var.remote.key, text = "a version of ${var.remote.name} was published" }
    failed    = { key = { prefix = "${var.remote.key}.acks/failed/" }, text = "a host of ${var.remote.name} rejected a version or rolled it back" }
    recovered = { key = { prefix = "${var.remote.key}.acks/recovered/" }, text = "a host of ${var.remote.name} that had failed has applied a version" }
  }
  rules = { for kind, rule in local.all : kind => rule if contains(var.tell, kind) }

  # "<bucket>" and "<key>" are EventBridge's, and filled in from the event.
  object  = "s3://<bucket>/<key>"
  webhook = nonsensitive(var.webhook != null)
  tags    = merge(var.tags, { "npcnix:remote" = var.remote.url })
}

resource "aws_cloudwatch_event_rule" "tell" {
  for_each = local.rules

  name        = "${local.name}-${each.key}"
  description = "Tells that ${each.value.text}"
  event_pattern = jsonencode({
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail = {
      bucket = { name = [var.remote.bucket.id] }
      object = { key = [each.value.key] }
    }
  })
  tags = local.tags
}

# For mail, and for whatever else subscribes: a line of text.

resource "aws_sns_topic" "text" {
  name = "${local.name}-tell"
  tags = local.tags
}

resource "aws_sns_topic_policy" "text" {
  arn    = aws_sns_topic.text.arn
  policy = jsonencode(merge(local.topic_policy, { Statement = [merge(local.rules_publish, { Resource = aws_sns_topic.text.arn })] }))
}

locals {
  topic_policy = { Version = "2012-10-17" }
  rules_publish = {
    Sid       = "RulesPublish"
    Effect    = "Allow"
    Principal = { Service = "events.amazonaws.com" }
    Action    = "sns:Publish"
    # No condition, for the reason in store_s3's main.tf.
  }
}

resource "aws_cloudwatch_event_target" "text" {
  for_each = local.rules

  rule      = aws_cloudwatch_event_rule.tell[each.key].name
  target_id = "text"
  arn       = aws_sns_topic.text.arn

  input_transformer {
    input_paths    = { bucket = "$.detail.bucket.name", key = "$.detail.object.key" }
    input_template = "\"npcnix: ${each.value.text}. ${local.object}\""
  }
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.emails

  topic_arn = aws_sns_topic.text.arn
  protocol  = "email"
  endpoint  = each.value
}

# For Slack: the notification that AWS' integration shows as it is.

resource "aws_sns_topic" "chat" {
  count = var.slack == null ? 0 : 1

  name = "${local.name}-chat"
  tags = local.tags
}

resource "aws_sns_topic_policy" "chat" {
  count = var.slack == null ? 0 : 1

  arn    = aws_sns_topic.chat[0].arn
  policy = jsonencode(merge(local.topic_policy, { Statement = [merge(local.rules_publish, { Resource = aws_sns_topic.chat[0].arn })] }))
}

resource "aws_cloudwatch_event_target" "chat" {
  for_each = { for kind, rule in local.rules : kind => rule if var.slack != null }

  rule      = aws_cloudwatch_event_rule.tell[each.key].name
  target_id = "chat"
  arn       = aws_sns_topic.chat[0].arn

  input_transformer {
    input_paths    = { bucket = "$.detail.bucket.name", key = "$.detail.object.key" }
    input_template = "{\"version\": \"1.0\", \"source\": \"custom\", \"content\": {\"title\": \"npcnix: ${each.value.text}\", \"description\": \"${local.object}\"}}"
  }
}

# The channel's role and guardrail allow nothing: the channel is for reading.
resource "aws_iam_role" "chat" {
  count = var.slack == null ? 0 : 1

  name = "${local.name}-chat"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "chatbot.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = local.tags
}

resource "aws_chatbot_slack_channel_configuration" "chat" {
  count = var.slack == null ? 0 : 1

  configuration_name    = "${local.name}-chat"
  slack_team_id         = var.slack.workspace_id
  slack_channel_id      = var.slack.channel_id
  iam_role_arn          = aws_iam_role.chat[0].arn
  guardrail_policy_arns = ["arn:${split(":", var.remote.bucket.arn)[1]}:iam::aws:policy/AWSDenyAll"]
  sns_topic_arns        = [aws_sns_topic.chat[0].arn]
  tags                  = local.tags
}

# For anything else that takes a POST.

resource "aws_cloudwatch_event_connection" "webhook" {
  count = local.webhook ? 1 : 0

  name               = "${local.name}-webhook"
  authorization_type = "API_KEY"
  auth_parameters {
    api_key {
      key   = var.webhook.header
      value = var.webhook.secret
    }
  }
}

resource "aws_cloudwatch_event_api_destination" "webhook" {
  count = local.webhook ? 1 : 0

  name                = "${local.name}-webhook"
  invocation_endpoint = var.webhook.url
  http_method         = "POST"
  connection_arn      = aws_cloudwatch_event_connection.webhook[0].arn
}

resource "aws_iam_role" "webhook" {
  count = local.webhook ? 1 : 0

  name = "${local.name}-webhook"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "events.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "webhook" {
  count = local.webhook ? 1 : 0

  name = "call"
  role = aws_iam_role.webhook[0].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "events:InvokeApiDestination", Resource = aws_cloudwatch_event_api_destination.webhook[0].arn }]
  })
}

resource "aws_cloudwatch_event_target" "webhook" {
  for_each = { for kind, rule in local.rules : kind => rule if local.webhook }

  rule      = aws_cloudwatch_event_rule.tell[each.key].name
  target_id = "webhook"
  arn       = aws_cloudwatch_event_api_destination.webhook[0].arn
  role_arn  = aws_iam_role.webhook[0].arn

  input_transformer {
    input_paths    = { bucket = "$.detail.bucket.name", key = "$.detail.object.key" }
    input_template = "{\"text\": \"npcnix: ${each.value.text}. ${local.object}\"}"
  }
}
