# Topic ARNs are available only after the notification is written. Everything that uses one, and so each host, is
# created after it.

output "bucket" {
  description = "The input bucket."
  value       = var.bucket
}

output "prefix" {
  description = "The input prefix."
  value       = var.prefix
}

output "region" {
  description = "The bucket's region, which must be the provider's."
  value       = local.region

  precondition {
    condition     = var.bucket.region == data.aws_service.sqs.region
    error_message = "The bucket ${var.bucket.id} is in ${var.bucket.region}, but the provider works in ${data.aws_service.sqs.region}. S3 notifies only topics of its own region. Pass this module a provider for ${var.bucket.region}."
  }
}

output "events" {
  description = "Whether the remotes have topics."
  value       = local.events
}

output "eventbridge" {
  description = "Whether S3 tells EventBridge of each new object of the bucket."
  value       = local.eventbridge
}

output "remotes" {
  description = "Per remote name: filename, key, url, topic_arn (null without events) and accounts, the IDs of other accounts that can follow it."
  value = { for name, key in local.keys : name => {
    filename  = "${name}.npcnix"
    key       = key
    url       = "s3://${var.bucket.id}/${key}"
    topic_arn = local.events ? aws_sns_topic.remote[name].arn : null
    accounts  = local.accounts[name]
  } }
  depends_on = [aws_s3_bucket_notification.store, aws_sns_topic_policy.remote, aws_cloudwatch_event_target.remote, aws_s3_bucket_policy.store]
}

output "topic_arns" {
  description = "Per remote name, the ARN of its topic. Empty without events."
  value       = { for name, topic in aws_sns_topic.remote : name => topic.arn }
  depends_on  = [aws_s3_bucket_notification.store, aws_sns_topic_policy.remote, aws_cloudwatch_event_target.remote]
}

output "notification_topics" {
  description = "The topic blocks of the bucket's notification: id, topic_arn, events, filter_prefix, filter_suffix. With manage_notification = false, merge them into the notification that you manage. Empty with events = \"eventbridge\"."
  value       = local.notification_topics
  depends_on  = [aws_sns_topic_policy.remote]
}

output "bucket_policy_statements" {
  description = "The statements of the bucket's policy by which other accounts read remotes and write records. With manage_bucket_policy = false, add them to the policy that you manage."
  value       = local.bucket_policy_statements
}

output "kms_key_arn" {
  description = "The ARN of the customer-managed key, whether created or given. Null without one."
  value       = local.kms_key_arn
}

output "kms_key_statements" {
  description = "The statements that the policy of a key given as kms_key_arn needs, so that S3 and SNS can use it for this store."
  value       = local.kms_key_statements
}
