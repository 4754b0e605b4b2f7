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
  })
  nullable = false

  validation {
    condition     = var.remote.events
    error_message = "The remote \"${var.remote.name}\" has no events, so nothing would ever come into a queue. Set events = true in module store_s3, or leave the queue away (queue = false in module instance): the host then polls."
  }
}

variable "host" {
  description = "The host's name, as npcnix --host has it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.host))
    error_message = "\"${var.host}\" is not a host name. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
}

variable "lease_secs" {
  description = "For how many seconds the agent has a message to itself before it extends that. The time after which another look is taken when an agent dies."
  type        = number
  default     = 120

  validation {
    condition     = var.lease_secs >= 30 && var.lease_secs <= 43200 && floor(var.lease_secs) == var.lease_secs
    error_message = "A lease of ${var.lease_secs} s is not possible. Give a whole number of seconds from 30 to 43200, which is SQS's limit."
  }
}

variable "max_receive_count" {
  description = "How often a message is received before it becomes a dead letter. More than the agent's four attempts at a version, with room for its restarts."
  type        = number
  default     = 10

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000 && floor(var.max_receive_count) == var.max_receive_count
    error_message = "max_receive_count = ${var.max_receive_count} is not possible. Give a whole number from 5, as the agent tries a version four times, to 1000."
  }
}

variable "alarms" {
  description = "CloudWatch alarms for dead letters above 0 and for the age of the oldest message: the ARNs to notify, and the age in seconds. Null for none."
  type = object({
    actions             = list(string)
    oldest_message_secs = optional(number, 3600)
  })
  default = null
}

variable "tags" {
  description = "Tags of the queues, alarms and policy, beside npcnix:host and npcnix:remote."
  type        = map(string)
  default     = {}
}
