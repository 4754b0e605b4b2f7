variable "name" {
  description = "The name of the bucket to create."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name))
    error_message = "\"${var.name}\" is not a bucket name. Use 3 to 63 lower-case letters, digits, dots and dashes, with a letter or digit at both ends."
  }
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete the bucket with everything in it. Apply it before you destroy."
  type        = bool
  default     = false
  nullable    = false
}

variable "path" {
  description = "The path of the IAM policies."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-~]+/)?$", var.path))
    error_message = "\"${var.path}\" is not an IAM path. A path begins and ends with a slash, such as \"/npcnix/\"."
  }
}

variable "tags" {
  description = "Tags of the bucket and the policies."
  type        = map(string)
  default     = {}
  nullable    = false
}
