output "hosts" {
  description = "For each host, by REMOTE/HOST, the settings of its agent, and its role."
  value = merge([for remote, hosts in module.hosts : {
    for name, queue in hosts.host_queue : "${remote}/${name}" => {
      remote        = module.remote[remote].url
      remote_region = module.remote[remote].region
      queue_url     = queue.queue_url
      host          = queue.host
      configuration = "${name}-${remote}"
      dead_letters  = queue.dead_letter_queue_url
      role_arn      = hosts.role[name].arn
    }
  }]...)
}

output "remotes" {
  description = "For each remote, where CI publishes and the role that may do so."
  value = { for name, remote in module.remote : name => {
    url         = remote.url
    region      = remote.region
    topic_arn   = remote.topic_arn
    ci_role_arn = aws_iam_role.ci[name].arn
  } }
}

output "cache_url" {
  description = "The binary cache for npcnix push --cache. Null without cache_bucket."
  value       = one(module.cache[*].url)
}
