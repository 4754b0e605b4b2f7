variable "create" {
  description = "Whether to create the IAM policy. If false, only its text is output, such as for an inline policy."
  type        = bool
  default     = true
  nullable    = false
}

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
  description = "The beginning of the policy's name; the remote's name follows."
  type        = string
  default     = "npcnix-gate-"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]*$", var.name_prefix)) && length("${var.name_prefix}${var.remote.name}") <= 128
    error_message = "\"${var.name_prefix}${var.remote.name}\" cannot be the name of an IAM policy. Use a prefix of at most ${128 - length(var.remote.name)} letters, digits and +=,.@_-."
  }
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
