output "remote" {
  description = "Where to publish."
  value       = module.remote.url
}

output "topic_arn" {
  description = "The topic that announces publishes."
  value       = module.remote.topic_arn
}

output "role" {
  description = "The role of all members."
  value       = module.web.role
}

output "group" {
  description = "The name of the Auto Scaling Group."
  value       = aws_autoscaling_group.web.name
}

output "user_data" {
  description = "The script that a member runs at each boot."
  value       = module.web.user_data
}

output "cache_url" {
  description = "The binary cache for npcnix push --cache. Null without cache_bucket."
  value       = one(module.cache[*].url)
}

output "cache_write_policy_arn" {
  description = "The policy for the role that publishes, to copy to the cache. Null without cache_bucket."
  value       = one(module.cache[*].write_policy_arn)
}
