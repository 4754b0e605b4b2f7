variable "store" {
  description = "The store that holds the remote: the module store_s3."
  type = object({
    bucket      = object({ id = string, arn = string })
    prefix      = string
    region      = string
    events      = bool
    eventbridge = optional(bool, false)
    kms_key_arn = optional(string)
    remotes = map(object({
      filename  = string
      key       = string
      url       = string
      topic_arn = optional(string)
      accounts  = optional(list(string), [])
    }))
  })
  nullable = false
}

variable "name" {
  description = "The remote's name, one of the store's, without \".npcnix\"."
  type        = string
  nullable    = false

  validation {
    condition     = contains(keys(var.store.remotes), var.name)
    error_message = "The store has no remote \"${var.name}\", only ${join(", ", [for name in keys(var.store.remotes) : "\"${name}\""])}. Add it to the remotes of module store_s3, or choose one of these, without \".npcnix\"."
  }
}

variable "topic" {
  description = "A topic of your own that announces this remote's publishes instead of the store's. You manage the topic, its policy and the notification that publishes to it."
  type        = object({ arn = string })
  default     = null

  validation {
    condition     = var.topic == null ? true : can(regex("^arn:[^:]+:sns:[^:]+:[0-9]+:[A-Za-z0-9_-]+$", var.topic.arn))
    error_message = "The topic's ARN is not that of a standard SNS topic, and S3 publishes only to those. An ARN looks like arn:aws:sns:eu-central-1:123456789012:my-topic."
  }
  validation {
    condition     = var.topic == null ? true : try(split(":", var.topic.arn)[3] == var.store.region, true)
    error_message = "The topic is in ${try(split(":", var.topic.arn)[3], "another region")}, but the store's bucket is in ${var.store.region}, where the hosts' queues are. Use a topic in ${var.store.region}."
  }
}
