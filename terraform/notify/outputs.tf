output "topic_arn" {
  description = "The ARN of the topic that gets a line of text for each message. Subscribe what else is to be told."
  value       = aws_sns_topic.text.arn
}

output "rule_names" {
  description = "Per kind of message (published, failed, recovered), the name of its EventBridge rule."
  value       = { for kind, rule in aws_cloudwatch_event_rule.tell : kind => rule.name }
}
