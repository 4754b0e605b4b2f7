# The queue's URL is available only after the subscription, so an agent never starts on a queue that hears nothing.

output "host" {
  description = "The host's name."
  value       = var.host
}

output "queue_url" {
  description = "The queue's URL, as in npcnix --queue-url."
  value       = aws_sqs_queue.host.id
  depends_on  = [aws_sns_topic_subscription.host]
}

output "queue_arn" {
  description = "The queue's ARN."
  value       = aws_sqs_queue.host.arn
}

output "queue_name" {
  description = "The queue's name."
  value       = local.name
}

output "dead_letter_queue_url" {
  description = "The dead-letter queue's URL."
  value       = aws_sqs_queue.dead_letter.id
}

output "dead_letter_queue_arn" {
  description = "The dead-letter queue's ARN."
  value       = aws_sqs_queue.dead_letter.arn
}

output "lease_secs" {
  description = "The visibility timeout of the queue in seconds."
  value       = var.lease_secs
}

output "max_receive_count" {
  description = "How often a message can be received before it becomes a dead letter."
  value       = var.max_receive_count
}

output "alarm_names" {
  description = "The names of the CloudWatch alarms. Empty without alarms."
  value       = [for alarm in aws_cloudwatch_metric_alarm.queue : alarm.alarm_name]
}

output "policy_arn" {
  description = "The ARN of the host's IAM policy, to attach to its role. Null with create_policy = false."
  value       = module.policy.policy_arn
}

output "policy_json" {
  description = "The text of the policy."
  value       = module.policy.policy_json
}

output "policy_name" {
  description = "The name of the policy, which no other host has."
  value       = module.policy.policy_name
}

output "subscription_arn" {
  description = "The ARN of the queue's subscription to the topic. Null with subscribe = false."
  value       = one(aws_sns_topic_subscription.host[*].arn)
}

output "topic_arn" {
  description = "The ARN of the topic that sends to the queue. It is available only after the queue's policy admits it."
  value       = var.remote.topic_arn
  depends_on  = [aws_sqs_queue_policy.topic_sends]
}

output "kms_key_statements" {
  description = "The statements that the policy of a key given as kms_key_arn needs, so that the topic can send."
  value = [{
    Sid       = "TopicSends"
    Effect    = "Allow"
    Principal = { Service = local.sns }
    Action    = ["kms:GenerateDataKey*", "kms:Decrypt"]
    Resource  = "*"
    Condition = { ArnEquals = { "aws:SourceArn" = var.remote.topic_arn } }
  }]
}
