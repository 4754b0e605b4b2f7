output "remote" {
  description = "Where to publish."
  value       = module.remote.url
}

output "instance_id" {
  description = "The instance of the host."
  value       = module.host.instance.id
}

output "cache_url" {
  description = "The binary cache for npcnix push --cache. Null without cache_bucket."
  value       = one(module.cache[*].url)
}

output "cache_write_policy_arn" {
  description = "The policy for the role that publishes, to copy to the cache. Null without cache_bucket."
  value       = one(module.cache[*].write_policy_arn)
}
