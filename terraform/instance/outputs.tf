output "instance" {
  description = "The aws_instance."
  value       = aws_instance.host
}

output "eip" {
  description = "The aws_eip; null without."
  value       = one(aws_eip.host)
}

output "role" {
  description = "The host's aws_iam_role."
  value       = aws_iam_role.host
}

output "security_group" {
  description = "The host's aws_security_group."
  value       = aws_security_group.host
}

output "host_queue" {
  description = "The module host_queue; null without."
  value       = one(module.host_queue)
}

output "policy_json" {
  description = "What npcnix may do on this host."
  value       = local.queue ? module.host_queue[0].policy_json : module.host_policy[0].policy_json
}

output "private_dns_names" {
  description = "The DNS names of the host's private addresses."
  value       = compact([local.private_name])
}

output "user_data" {
  description = "What the host runs at each boot."
  value       = local.user_data
}
