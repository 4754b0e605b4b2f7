variable "remote" {
  description = "The remote that the host follows: the module remote_s3."
  type = object({
    name        = string
    filename    = string
    bucket      = object({ id = string, arn = string })
    key         = string
    url         = string
    region      = string
    events      = bool
    topic_arn   = optional(string)
    kms_key_arn = optional(string)
    accounts    = optional(list(string))
  })
  nullable = false

  validation {
    condition     = var.remote.events
    error_message = "The remote \"${var.remote.name}\" has no events, so nothing would ever arrive in a queue. Set events = true in module store_s3, or omit the queue (queue = false in module instance); the host then polls."
  }
}

variable "host" {
  description = "The host's name, as in npcnix --host."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.host))
    error_message = "\"${var.host}\" is not a host name. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
}

variable "lease_secs" {
  description = "Visibility timeout in seconds; the agent extends it while it works. If an agent dies, its message is delivered again after this time."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.lease_secs >= 30 && var.lease_secs <= 43200 && floor(var.lease_secs) == var.lease_secs
    error_message = "A lease of ${var.lease_secs} s is not possible. Use a whole number of seconds from 30 to 43200, the limit of SQS."
  }
}

variable "max_receive_count" {
  description = "How often a message can be received before it becomes a dead letter: the agent's four attempts at a version, and some restarts of the agent."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000 && floor(var.max_receive_count) == var.max_receive_count
    error_message = "max_receive_count = ${var.max_receive_count} is not possible. Use a whole number from 5 (the agent tries a version four times) to 1000."
  }
}

variable "alarms" {
  description = "CloudWatch alarms for any dead letter and for the age of the oldest message: the ARNs to notify, and that age in seconds. Null for no alarms."
  type = object({
    actions             = list(string)
    oldest_message_secs = optional(number, 3600)
  })
  default = null
}

variable "subscribe" {
  description = "Whether to subscribe the queue to the topic. False for a queue in another region than the topic: subscribe it with a provider of the topic's region, as this README shows."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "The ARN of the key of the queues, which must be in their region; its policy needs the statements of the output kms_key_statements. Null: the store's. Empty: the encryption of SQS itself."
  type        = string
  default     = null

  validation {
    condition     = contains(["", "-"], coalesce(var.kms_key_arn, "-")) ? true : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]+:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, such as arn:aws:kms:eu-central-1:123456789012:key/…. IAM policies do not accept an alias."
  }
}

variable "create_policy" {
  description = "Whether to create the host's IAM policy. If false, only its text is output, such as for an inline policy."
  type        = bool
  default     = true
  nullable    = false
}

variable "policy_path" {
  description = "The path of the host's IAM policy."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-~]+/)?$", var.policy_path))
    error_message = "\"${var.policy_path}\" is not an IAM path. A path begins and ends with a slash, such as \"/npcnix/\"."
  }
}

variable "tags" {
  description = "Tags of queues, alarms and policy, besides npcnix:host and npcnix:remote."
  type        = map(string)
  default     = {}
  nullable    = false
}
