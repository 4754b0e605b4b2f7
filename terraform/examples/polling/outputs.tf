output "remote" {
  description = "Where to publish."
  value       = module.remote.url
}

output "instance_id" {
  description = "The instance of the host."
  value       = module.host.instance.id
}
