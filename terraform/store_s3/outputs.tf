# Topic ARNs are given out only once the notification is in place: whatever uses one, and so each host, is
# made after it.

output "bucket" {
  description = "The bucket, as given."
  value       = var.bucket
}

output "prefix" {
  description = "The prefix, as given."
  value       = var.prefix
}

output "region" {
  description = "The region of the bucket, which is the provider's."
  value       = local.region

  precondition {
    condition     = var.bucket.region == local.region
    error_message = "The bucket ${var.bucket.id} is in ${var.bucket.region}, but the provider works in ${local.region}, and S3 notifies only topics of its own region. Pass this module a provider for ${var.bucket.region}."
  }
}

output "events" {
  description = "Whether the remotes have topics."
  value       = var.events
}

output "remotes" {
  description = "For each remote's name: filename, key, url and topic_arn (null when polling only)."
  value = { for name, key in local.keys : name => {
    filename  = "${name}.npcnix"
    key       = key
    url       = "s3://${var.bucket.id}/${key}"
    topic_arn = var.events ? aws_sns_topic.remote[name].arn : null
  } }
  depends_on = [aws_s3_bucket_notification.store, aws_sns_topic_policy.remote]
}

output "topic_arns" {
  description = "For each remote's name, the ARN of its topic. Empty when polling only."
  value       = { for name, topic in aws_sns_topic.remote : name => topic.arn }
  depends_on  = [aws_s3_bucket_notification.store, aws_sns_topic_policy.remote]
}

output "notification_topics" {
  description = "The topic blocks of the bucket's notification (id, topic_arn, events, filter_prefix, filter_suffix), to merge into its owner's where manage_notification is false."
  value       = local.notification_topics
  depends_on  = [aws_sns_topic_policy.remote]
}

output "kms_key_arn" {
  description = "The ARN of the customer-managed key, null without."
  value       = one(aws_kms_key.store[*].arn)
}
