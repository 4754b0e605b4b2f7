output "remote" {
  description = "Where to publish."
  value       = module.remote.url
}

output "remote_object" {
  description = "The remote as the modules of another root take it, such as one that only the hosts' account applies."
  value       = { for name in ["name", "filename", "bucket", "key", "url", "region", "events", "topic_arn", "kms_key_arn", "accounts"] : name => module.remote[name] }
}

output "hosts" {
  description = "Per host, its queue for npcnix install --queue-url, and the policy to attach to the role or user of its credentials."
  value = { for name, queue in { web1 = module.web1, web2 = module.web2 } : name => {
    queue_url  = queue.queue_url
    policy_arn = queue.policy_arn
  } }
}
