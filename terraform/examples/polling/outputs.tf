output "remote" {
  description = "Where to publish to."
  value       = module.remote.url
}

output "instance_id" {
  description = "The host's instance."
  value       = module.host.instance.id
}
