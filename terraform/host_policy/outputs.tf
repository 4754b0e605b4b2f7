output "policy_arn" {
  description = "The ARN of the host's IAM policy, to attach to its role."
  value       = aws_iam_policy.host.arn
}

output "policy_json" {
  description = "The same policy's text."
  value       = local.policy
}
