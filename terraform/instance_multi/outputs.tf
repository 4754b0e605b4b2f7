output "instance" {
  description = "The aws_instances, by host."
  value       = { for name, host in module.instance : name => host.instance }
}

output "eip" {
  description = "The aws_eips, by host; null without."
  value       = { for name, host in module.instance : name => host.eip }
}

output "role" {
  description = "The hosts' aws_iam_roles, by host."
  value       = { for name, host in module.instance : name => host.role }
}

output "security_group" {
  description = "The hosts' aws_security_groups, by host."
  value       = { for name, host in module.instance : name => host.security_group }
}

output "host_queue" {
  description = "The modules host_queue, by host; null without."
  value       = { for name, host in module.instance : name => host.host_queue }
}

output "policy_json" {
  description = "What npcnix may do, by host."
  value       = { for name, host in module.instance : name => host.policy_json }
}

output "private_dns_names" {
  description = "The DNS names of the private addresses, by host."
  value       = { for name, host in module.instance : name => host.private_dns_names }
}

output "user_data" {
  description = "What runs at each boot, by host."
  value       = { for name, host in module.instance : name => host.user_data }
}
