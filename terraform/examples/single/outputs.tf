output "remote" {
  description = "Where to publish to."
  value       = module.remote.url
}

output "queue_url" {
  description = "The host's queue; null where it polls."
  value       = try(module.host.host_queue.queue_url, null)
}

output "dead_letters" {
  description = "The queue of what the host rejected; null where it polls."
  value       = try(module.host.host_queue.dead_letter_queue_url, null)
}

output "instance_id" {
  description = "The host's instance."
  value       = module.host.instance.id
}
