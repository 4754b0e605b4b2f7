output "remote" {
  description = "Where to publish."
  value       = module.remote.url
}

output "topic_arn" {
  description = "The topic that announces publishes. npcnix wait --topic-arn waits for each host that has a queue on it."
  value       = module.remote.topic_arn
}

output "queue_url" {
  description = "The queue of the host, for npcnix install --queue-url."
  value       = module.web1.queue_url
}

output "policy_arn" {
  description = "The policy to attach to the identity whose credentials the host uses."
  value       = module.web1.policy_arn
}
