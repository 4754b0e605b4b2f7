variable "remote" {
  description = "The remote whose publishes, failures and recoveries to tell: the module remote_s3."
  type = object({
    name        = string
    bucket      = object({ id = string, arn = string })
    key         = string
    url         = string
    eventbridge = bool
  })
  nullable = false

  validation {
    condition     = var.remote.eventbridge
    error_message = "The bucket ${var.remote.bucket.id} tells EventBridge of nothing, so nobody would be notified. Set eventbridge = true in module store_s3."
  }
}

variable "tell" {
  description = "What to tell: \"published\", \"failed\" (a host rejected a version or rolled it back) and \"recovered\" (it applied one after that)."
  type        = set(string)
  default     = ["published", "failed", "recovered"]
  nullable    = false

  validation {
    condition     = length(var.tell) > 0 && length(setsubtract(var.tell, ["published", "failed", "recovered"])) == 0
    error_message = "tell must be some of \"published\", \"failed\" and \"recovered\"."
  }
}

variable "emails" {
  description = "Addresses to write to. AWS asks each for its consent by a mail first."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "These are no e-mail addresses: ${join(", ", [for address in var.emails : "\"${address}\"" if !can(regex("^[^@ ]+@[^@ ]+$", address))])}."
  }
}

variable "slack" {
  description = "A Slack channel to write to, by Amazon Q Developer in chat applications, which was AWS Chatbot: the ids of the workspace and the channel. An operator must have authorized the workspace in the AWS console once."
  type        = object({ workspace_id = string, channel_id = string })
  default     = null

  validation {
    condition     = var.slack == null ? true : can(regex("^[A-Z0-9]+$", var.slack.workspace_id)) && can(regex("^[A-Z0-9]+$", var.slack.channel_id))
    error_message = "The ids of Slack have capital letters and digits, such as \"T012AB3C4\" for a workspace and \"C012AB3CD\" for a channel."
  }
}

variable "webhook" {
  description = "An HTTPS address that receives a POST of {\"text\": \"…\"}, which Slack and Mattermost accept. The header is for its authentication; AWS requires one."
  type        = object({ url = string, header = optional(string, "X-Npcnix"), secret = optional(string, "none") })
  default     = null
  sensitive   = true

  validation {
    condition     = var.webhook == null ? true : startswith(var.webhook.url, "https://")
    error_message = "The webhook's address must begin with https://, as EventBridge calls no other."
  }
}

variable "tags" {
  description = "Tags of topics, rules and roles."
  type        = map(string)
  default     = {}
  nullable    = false
}
