variable "create" {
  description = "Whether to create the IAM policy. If false, only its text is output, such as for an inline policy."
  type        = bool
  default     = true
  nullable    = false
}

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
}

variable "host" {
  description = "The host's name, as in npcnix --host."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.host))
    error_message = "\"${var.host}\" is not a host name. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
  validation {
    condition     = length("npcnix-${var.remote.name}@${var.host}") + 9 <= 128
    error_message = "The host name \"${var.host}\" is too long for an IAM policy of remote \"${var.remote.name}\". Shorten it to ${111 - length(var.remote.name)} characters."
  }
}

variable "queue" {
  description = "The host's queue, from which it may receive, and its key if that is not the store's. Null for a host that polls."
  type        = object({ arn = string, kms_key_arn = optional(string) })
  default     = null
}

variable "path" {
  description = "The path of the IAM policy."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-~]+/)?$", var.path))
    error_message = "\"${var.path}\" is not an IAM path. A path begins and ends with a slash, such as \"/npcnix/\"."
  }
}

variable "tags" {
  description = "Tags of the policy."
  type        = map(string)
  default     = {}
  nullable    = false
}
