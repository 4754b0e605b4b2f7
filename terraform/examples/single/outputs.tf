output "remote" {
  description = "Where to publish."
  value       = module.remote.url
}

output "topic_arn" {
  description = "The topic that announces publishes. npcnix wait --topic-arn waits for each host that has a queue on it."
  value       = module.remote.topic_arn
}

output "queue_url" {
  description = "The queue of the host."
  value       = module.host.host_queue.queue_url
}

output "dead_letters" {
  description = "The dead-letter queue, with what the host rejected."
  value       = module.host.host_queue.dead_letter_queue_url
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
