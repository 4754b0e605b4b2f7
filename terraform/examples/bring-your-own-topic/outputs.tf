output "remote" {
  description = "Where to publish to."
  value       = module.remote.url
}

output "queue_url" {
  description = "What the host is told: npcnix config set queue-url."
  value       = module.web1.queue_url
}

output "policy_arn" {
  description = "The policy to attach to whoever the host's credentials belong to."
  value       = module.web1.policy_arn
}
