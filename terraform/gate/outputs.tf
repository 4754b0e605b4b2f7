output "policy_arn" {
  description = "The ARN of the IAM policy, to attach to the role of CI. Null with create = false."
  value       = one(aws_iam_policy.gate[*].arn)
}

output "policy_json" {
  description = "The text of the policy."
  value       = local.policy
}
