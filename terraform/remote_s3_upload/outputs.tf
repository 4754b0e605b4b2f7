output "content_hash" {
  description = "Changes whenever what is published does; known at plan."
  value       = local.content_hash
}
