output "content_hash" {
  description = "A hash that changes whenever the published content does. Known at plan."
  value       = local.content_hash
}
