output "instance" {
  description = "The aws_instance of each host."
  value       = { for name, host in module.instance : name => host.instance }
}

output "eip" {
  description = "The aws_eip of each host. Null without one."
  value       = { for name, host in module.instance : name => host.eip }
}

output "role" {
  description = "The aws_iam_role created for each host. Null for a given role or profile."
  value       = { for name, host in module.instance : name => host.role }
}

output "security_group" {
  description = "The aws_security_group of each host."
  value       = { for name, host in module.instance : name => host.security_group }
}

output "host_queue" {
  description = "The module host_queue of each host. Null for hosts that poll."
  value       = { for name, host in module.instance : name => host.host_queue }
}

output "policy_json" {
  description = "The policy that npcnix needs on each host."
  value       = { for name, host in module.instance : name => host.policy_json }
}

output "private_dns_names" {
  description = "The DNS names of the private addresses of each host."
  value       = { for name, host in module.instance : name => host.private_dns_names }
}

output "user_data" {
  description = "The script that each host runs at each boot."
  value       = { for name, host in module.instance : name => host.user_data }
}
