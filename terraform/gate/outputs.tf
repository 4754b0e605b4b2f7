output "policy_arn" {
  description = "The ARN of the IAM policy, to attach to the role of CI. Null with create = false."
  value       = one(aws_iam_policy.gate[*].arn)
}

output "policy_json" {
  description = "The text of the policy."
  value       = local.policy
}

output "collect_policy_json" {
  description = "The text of a policy for npcnix hosts gc, such as for a timer's role: it deletes records, queues and subscriptions of the remote's hosts, and publishes nothing. Null without events."
  value       = var.remote.events ? local.collect_policy : null
}
