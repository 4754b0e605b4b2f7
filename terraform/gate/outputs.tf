output "policy_arn" {
  description = "The ARN of the IAM policy, to attach to CI's role."
  value       = aws_iam_policy.gate.arn
}

output "policy_json" {
  description = "The same policy's text."
  value       = local.policy
}
