output "name" {
  description = "The remote's name."
  value       = var.name
}

output "filename" {
  description = "The remote's file name: <name>.npcnix."
  value       = var.store.remotes[var.name].filename
}

output "bucket" {
  description = "The bucket's id and arn."
  value       = var.store.bucket
}

output "key" {
  description = "The key of the packed flake. A host's acknowledgement record is <key>.acks/<host>.json."
  value       = var.store.remotes[var.name].key
}

output "url" {
  description = "The remote, as in npcnix --remote."
  value       = var.store.remotes[var.name].url
}

output "region" {
  description = "The bucket's region."
  value       = var.store.region
}

output "events" {
  description = "Whether there is a topic, so that hosts can have queues. Known at plan."
  value       = var.store.events || var.topic != null
}

output "eventbridge" {
  description = "Whether S3 tells EventBridge of each new object of the bucket, as module notify needs."
  value       = var.store.eventbridge
}

output "topic_arn" {
  description = "The ARN of the topic that announces publishes. Null without events."
  value       = var.topic == null ? var.store.remotes[var.name].topic_arn : var.topic.arn
}

output "accounts" {
  description = "The IDs of the other accounts that the store lets follow the remote."
  value       = var.store.remotes[var.name].accounts
}

output "kms_key_arn" {
  description = "The ARN of the store's customer-managed key. Null without one."
  value       = var.store.kms_key_arn
}

output "store" {
  description = "The input store."
  value       = var.store
}
