output "bucket" {
  description = "The bucket: its id, arn and region."
  value       = { id = aws_s3_bucket.cache.id, arn = aws_s3_bucket.cache.arn, region = aws_s3_bucket.cache.region }
}

output "url" {
  description = "The URL for npcnix push --cache."
  value       = "s3://${aws_s3_bucket.cache.id}?region=${aws_s3_bucket.cache.region}"
}

output "read_policy_arn" {
  description = "The ARN of the policy for the roles of hosts, which fetch."
  value       = aws_iam_policy.read.arn
}

output "write_policy_arn" {
  description = "The ARN of the policy for the gate's role, which copies. It can overwrite and not delete."
  value       = aws_iam_policy.write.arn
}

output "gc_policy_arn" {
  description = "The ARN of the policy for the role that runs npcnix cache gc. It can delete, so give it to no host and no other CI job."
  value       = aws_iam_policy.gc.arn
}
