output "instance" {
  description = "The aws_instance. Null with create = false."
  value       = one(aws_instance.host)
}

output "eip" {
  description = "The aws_eip. Null without one."
  value       = one(aws_eip.host)
}

output "role" {
  description = "The aws_iam_role that was created. Null for a given role or profile."
  value       = one(aws_iam_role.host)
}

output "security_group" {
  description = "The host's aws_security_group. Null with create = false."
  value       = one(aws_security_group.host)
}

output "host_queue" {
  description = "The module host_queue. Null for a host that polls."
  value       = one(module.host_queue)
}

output "policy_json" {
  description = "The policy that npcnix needs on this host, to be added to a given instance profile's role."
  value       = local.host_policy
}

output "private_dns_names" {
  description = "The DNS names of the host's private addresses."
  value       = compact([local.private_name])
}

output "user_data" {
  description = "The script that the host runs at each boot."
  value       = local.user_data
}
