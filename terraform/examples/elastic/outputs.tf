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
