variable "remote" {
  description = "The remote that CI publishes to and watches: the module remote_s3."
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

variable "name_prefix" {
  description = "What the policy's name begins with; the remote's name follows."
  type        = string
  default     = "npcnix-gate-"

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]*$", var.name_prefix)) && length("${var.name_prefix}${var.remote.name}") <= 128
    error_message = "\"${var.name_prefix}${var.remote.name}\" is no name of an IAM policy. Give a prefix of letters, digits and +=,.@_- with at most ${128 - length(var.remote.name)} characters."
  }
}

variable "tags" {
  description = "Tags of the policy."
  type        = map(string)
  default     = {}
}
