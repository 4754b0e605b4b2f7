locals {
  alarms = var.alarms == null ? {} : {
    dead-letters = {
      queue       = local.dead_letter_name
      metric      = "ApproximateNumberOfMessagesVisible"
      threshold   = 0
      description = "Host ${var.host} rejected a version of ${var.remote.url}, or SNS could not deliver an event to it. The host's acknowledgement record and journal say why."
    }
    oldest-message = {
      queue       = local.name
      metric      = "ApproximateAgeOfOldestMessage"
      threshold   = var.alarms.oldest_message_secs
      description = "Host ${var.host} has not acted on a publish to ${var.remote.url} for ${var.alarms.oldest_message_secs} s. It is off, paused or failing."
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "queue" {
  for_each = local.alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/SQS"
  metric_name         = each.value.metric
  dimensions          = { QueueName = each.value.queue }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = local.tags
}
