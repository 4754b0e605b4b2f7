variable "bucket" {
  description = "The bucket that holds the remotes: an aws_s3_bucket, or an object with its id, arn and region."
  type        = object({ id = string, arn = string, region = string })
  nullable    = false

  validation {
    condition     = try(var.bucket.arn == "arn:${split(":", var.bucket.arn)[1]}:s3:::${var.bucket.id}", false)
    error_message = "The bucket's ARN \"${var.bucket.arn}\" is not that of the bucket \"${var.bucket.id}\". Give an aws_s3_bucket, or its own ARN: arn:aws:s3:::${var.bucket.id} (of another partition, its word for aws)."
  }
}

variable "prefix" {
  description = "Where in the bucket the remotes are, without slashes at its ends: \"npcnix/remotes\"."
  type        = string
  nullable    = false

  validation {
    condition     = !startswith(var.prefix, "/") && !endswith(var.prefix, "/")
    error_message = "The prefix \"${var.prefix}\" begins or ends with a slash. Write it without: \"${trim(var.prefix, "/")}\"."
  }
  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", trim(var.prefix, "/"))) && length(var.prefix) <= 100
    error_message = "The prefix \"${var.prefix}\" is not one that policies and tags can name. Use 1 to 100 letters, digits, dots, underscores and dashes, with single slashes between them, for example \"npcnix/remotes\"."
  }
}

variable "remotes" {
  description = "The names of all remotes that the store will hold, without \".npcnix\"."
  type        = set(string)
  nullable    = false

  validation {
    condition     = alltrue([for name in var.remotes : can(regex("^[a-z0-9._-]{1,64}$", name))])
    error_message = "These names of remotes are not usable: ${join(", ", [for name in var.remotes : "\"${name}\"" if !can(regex("^[a-z0-9._-]{1,64}$", name))])}. Use 1 to 64 lower-case letters, digits, dots, underscores and dashes."
  }
  validation {
    condition     = length(var.remotes) <= 100
    error_message = "There are ${length(var.remotes)} remotes, but S3 takes at most 100 notifications for a bucket. Put the rest into another bucket, with a store of its own."
  }
  validation {
    condition = length(flatten([for one in var.remotes : [for other in var.remotes : other
    if one != other && startswith(other, "${one}.npcnix")]])) == 0
    error_message = "These remotes overlap, as the key of the second begins with the whole key of the first: ${join("; ", flatten([for one in var.remotes : [for other in var.remotes : "\"${one}\" and \"${other}\"" if one != other && startswith(other, "${one}.npcnix")]]))}. Rename one of each pair."
  }
  validation {
    condition     = length(var.remotes) > 0 || !var.events || !var.manage_notification
    error_message = "There are no remotes, so the bucket's notification would be written empty, and whatever it has now lost. Name a remote, or set manage_notification = false or events = false."
  }
}

variable "events" {
  description = "Whether each remote gets a topic that tells of its publishes. Without, hosts poll."
  type        = bool
  default     = true
}

variable "manage_notification" {
  description = "Whether to write the bucket's notification configuration, of which a bucket has only one. Where it has an owner already, set this to false and merge the output notification_topics there."
  type        = bool
  default     = true
}

variable "kms" {
  description = "Whether to make a customer-managed key for the topics and the hosts' queues. The bucket can be encrypted with it too."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of the topics and the key."
  type        = map(string)
  default     = {}
}
