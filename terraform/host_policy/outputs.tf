output "policy_arn" {
  description = "The ARN of the host's IAM policy, to attach to its role. Null with create = false."
  value       = one(aws_iam_policy.host[*].arn)
}

output "policy_json" {
  description = "The text of the policy."
  value       = local.policy
}

output "policy_name" {
  description = "The name of the policy, which no other host has."
  value       = local.name
}
