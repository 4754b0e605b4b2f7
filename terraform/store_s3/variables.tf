variable "bucket" {
  description = "The bucket that holds the remotes: an aws_s3_bucket, or an object with its id, arn and region."
  type        = object({ id = string, arn = string, region = string })
  nullable    = false

  validation {
    condition     = try(var.bucket.arn == "arn:${split(":", var.bucket.arn)[1]}:s3:::${var.bucket.id}", false)
    error_message = "The ARN \"${var.bucket.arn}\" does not belong to the bucket \"${var.bucket.id}\". Pass an aws_s3_bucket, or the bucket's own ARN: arn:aws:s3:::${var.bucket.id} (in another partition, with its name instead of aws)."
  }
}

variable "prefix" {
  description = "Where the remotes are in the bucket, without a slash at either end, such as \"npcnix/remotes\"."
  type        = string
  nullable    = false

  validation {
    condition     = !startswith(var.prefix, "/") && !endswith(var.prefix, "/")
    error_message = "The prefix \"${var.prefix}\" begins or ends with a slash. Write \"${trim(var.prefix, "/")}\"."
  }
  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", trim(var.prefix, "/"))) && length(var.prefix) <= 100
    error_message = "The prefix \"${var.prefix}\" cannot be used in policies and tags. Use 1 to 100 letters, digits, dots, underscores and dashes, with single slashes between them, such as \"npcnix/remotes\"."
  }
}

variable "remotes" {
  description = "The names of all remotes in the store, without \".npcnix\"."
  type        = set(string)
  nullable    = false

  validation {
    condition     = alltrue([for name in var.remotes : can(regex("^[a-z0-9._-]{1,64}$", name))])
    error_message = "These names of remotes cannot be used: ${join(", ", [for name in var.remotes : "\"${name}\"" if !can(regex("^[a-z0-9._-]{1,64}$", name))])}. Use 1 to 64 lower-case letters, digits, dots, underscores and dashes."
  }
  validation {
    condition     = length(var.remotes) <= 100 || var.events == "eventbridge"
    error_message = "There are ${length(var.remotes)} remotes, but S3 accepts at most 100 notifications for a bucket. Put the rest into another bucket with a store of its own, or set events = \"eventbridge\"."
  }
  validation {
    condition     = length(var.remotes) <= 300
    error_message = "There are ${length(var.remotes)} remotes, but EventBridge accepts 300 rules unless AWS raises that. Put the rest into another account or region."
  }
  validation {
    condition = length(flatten([for one in var.remotes : [for other in var.remotes : other
    if one != other && startswith(other, "${one}.npcnix")]])) == 0
    error_message = "These remotes overlap, because the key of the second begins with the whole key of the first: ${join("; ", flatten([for one in var.remotes : [for other in var.remotes : "\"${one}\" and \"${other}\"" if one != other && startswith(other, "${one}.npcnix")]]))}. Rename one of each pair."
  }
  validation {
    condition     = length(var.remotes) > 0 || var.events == "false" && !var.eventbridge || !var.manage_notification
    error_message = "There are no remotes, so the bucket's present notification would be replaced by an empty one. Name a remote, or set manage_notification = false, or events and eventbridge to false."
  }
}

variable "events" {
  description = "Whether each remote gets a topic that announces its publishes, and how: true, by the bucket's notification; \"eventbridge\", by a rule of EventBridge for each remote, beside notifications of the bucket that are not this module's; false, not at all: hosts poll."
  type        = string
  default     = "true"
  nullable    = false

  validation {
    condition     = contains(["true", "false", "eventbridge"], var.events)
    error_message = "events must be true, false or \"eventbridge\"."
  }
}

variable "eventbridge" {
  description = "Whether S3 tells EventBridge of each new object of the bucket, as module notify and events = \"eventbridge\" need, which implies it. With manage_notification = false, set the switch where you manage the notification."
  type        = bool
  default     = false
  nullable    = false
}

variable "manage_notification" {
  description = "Whether to write the bucket's notification configuration. A bucket has only one. If something else owns it, set this to false and merge the output notification_topics there."
  type        = bool
  default     = true
  nullable    = false
}

variable "accounts" {
  description = "Per remote, who follows it from other accounts: IDs of accounts, or ARNs of their roles, in which * stands for any characters. An account can subscribe its queues, and it or its roles can read the remote and write records."
  type        = map(set(string))
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.accounts), var.remotes)) == 0
    error_message = "The store has no remotes ${join(", ", [for name in setsubtract(keys(var.accounts), var.remotes) : "\"${name}\""])}, which accounts names."
  }
  validation {
    condition     = alltrue([for who in values(var.accounts) : length(who) > 0])
    error_message = "accounts names nobody for ${join(", ", [for name, who in var.accounts : "\"${name}\"" if length(who) == 0])}. Omit a remote that no other account follows."
  }
  validation {
    condition     = alltrue(flatten([for who in values(var.accounts) : [for one in who : can(regex("^([0-9]{12}|arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/*-]+)$", one))]]))
    error_message = "Each of accounts must be the 12 digits of an account, or the ARN of a role, such as arn:aws:iam::210987654321:role/npcnix-*."
  }
}

variable "manage_bucket_policy" {
  description = "Whether to write the bucket's policy if accounts names any. A bucket has only one. If something else owns it, set this to false and add the output bucket_policy_statements there."
  type        = bool
  default     = true
  nullable    = false
}

variable "topic_policy_statements" {
  description = "Further statements of each topic's policy, by Sid. The resource is always the topic. A topic has a single policy, so it must not be set elsewhere."
  type = map(object({
    effect     = optional(string, "Allow")
    actions    = optional(list(string), ["sns:Publish"])
    principals = list(object({ type = string, identifiers = list(string) }))
    conditions = optional(list(object({ test = string, variable = string, values = list(string) })), [])
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for sid in keys(var.topic_policy_statements) : can(regex("^[A-Za-z0-9]+$", sid)) && !contains(["BucketPublishes", "RulePublishes", "AccountsSubscribe", "AccountsLook"], sid)])
    error_message = "Each key of topic_policy_statements becomes a Sid, so it must consist of letters and digits. \"BucketPublishes\", \"RulePublishes\", \"AccountsSubscribe\" and \"AccountsLook\" are the module's own."
  }
  validation {
    condition     = alltrue(flatten([for statement in values(var.topic_policy_statements) : [for action in statement.actions : startswith(lower(action), "sns:")]]))
    error_message = "SNS accepts only its own actions in a topic's policy, such as \"sns:Publish\"."
  }
  validation {
    condition     = alltrue([for statement in values(var.topic_policy_statements) : length(statement.principals) > 0 && length(distinct(statement.principals[*].type)) == length(statement.principals)])
    error_message = "Each of topic_policy_statements needs principals, and each type of principal once, with all of its identifiers."
  }
}

variable "history" {
  description = "Switches the bucket's versioning on, and keeps earlier versions for npcnix history and rollback: each for so many days, and so many of the newest of each object for ever. Earlier versions of records go after a day. A bucket has one lifecycle configuration: if something else owns it, leave this null."
  type = object({
    days   = optional(number, 90)
    newest = optional(number, 20)
  })
  default = null

  validation {
    condition     = var.history == null ? true : var.history.days >= 1 && floor(var.history.days) == var.history.days
    error_message = "history.days must be a whole number of at least 1."
  }
  validation {
    condition     = var.history == null ? true : var.history.newest >= 1 && var.history.newest <= 100 && floor(var.history.newest) == var.history.newest
    error_message = "history.newest must be a whole number from 1 to 100, as S3 accepts."
  }
}

variable "kms" {
  description = "Whether to create a customer-managed key for the topics and the hosts' queues. The bucket can use it too. Setting this back to false schedules the key for deletion: objects encrypted with it are then lost."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "The ARN of a key of your own for the topics and queues. Its policy needs the statements of the output kms_key_statements."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || !var.kms
    error_message = "kms creates a key and kms_key_arn names one. Set only one of them."
  }
  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]+:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, such as arn:aws:kms:eu-central-1:123456789012:key/…. IAM policies do not accept an alias."
  }
}

variable "kms_key_deletion_window_in_days" {
  description = "How many days pass between the removal of the key that kms created and its deletion. Until then the deletion can be cancelled."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.kms_key_deletion_window_in_days >= 7 && var.kms_key_deletion_window_in_days <= 30 && floor(var.kms_key_deletion_window_in_days) == var.kms_key_deletion_window_in_days
    error_message = "kms_key_deletion_window_in_days must be a whole number from 7 to 30."
  }
}

variable "tags" {
  description = "Tags of the topics and the key."
  type        = map(string)
  default     = {}
  nullable    = false
}
