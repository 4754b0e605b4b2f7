output "launch_template" {
  description = "The launch template, for an Auto Scaling Group: its id, and the version that has what was last applied."
  value       = { id = aws_launch_template.group.id, version = tostring(aws_launch_template.group.latest_version) }
}

output "role" {
  description = "The name and ARN of the role of all members."
  value       = { name = aws_iam_role.group.name, arn = aws_iam_role.group.arn }
}

output "policy_json" {
  description = "What npcnix may do on a member."
  value       = local.policy
}

output "user_data" {
  description = "The script that a member runs at each boot."
  value       = local.user_data
}
