variable "remote" {
  description = "The remote that the hosts follow: the module remote_s3. It must have events."
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
    error_message = "The remote \"${var.remote.name}\" has no events, so nothing would ever arrive in a queue. Set events = true in module store_s3."
  }
}

variable "name" {
  description = "The name of the group. A member's name is this, a dash and its instance ID, as in its queue and record."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$", var.name)) && !strcontains("${var.name}-", "-i-")
    error_message = "\"${var.name}\" cannot be the name of a group. Use 1 to 24 lower-case letters, digits and dashes, a letter or digit at both ends, and no \"-i-\": instance IDs begin with it."
  }
}

variable "configuration" {
  description = "The NixOS configuration in the remote's flake, which all members run. Null: the group's name."
  type        = string
  default     = null

  validation {
    condition     = var.configuration == null || can(regex("^[^\"\\n]+$", var.configuration))
    error_message = "configuration must be a name without quotes or line breaks. Omit it to use the group's name."
  }
}

variable "install" {
  description = "The module install, which installs npcnix at the first boot."
  type        = object({ install_script = string })
  nullable    = false
}

variable "root_ssh_keys" {
  description = "SSH public keys for root. Without any, no key can log in as root."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for k in var.root_ssh_keys : trimspace(k) != "" && !strcontains(trimspace(k), "\n")])
    error_message = "Each of root_ssh_keys must be one key on one line."
  }
}

variable "pre_install_script" {
  description = "Shell text that runs before npcnix is installed. If it fails, npcnix is not installed and the next boot starts with it again."
  type        = string
  default     = ""
  nullable    = false
}

variable "post_install_script" {
  description = "Shell text that runs after npcnix is installed. It runs again at each boot until it succeeds once."
  type        = string
  default     = ""
  nullable    = false
}

variable "iam_policies" {
  description = "Further policies for the role of the group, by a name of your choice."
  type        = map(object({ arn = string }))
  default     = {}
  nullable    = false
}

variable "iam_role_path" {
  description = "The path of role and instance profile, such as \"/npcnix/\"."
  type        = string
  default     = null
}

variable "iam_role_permissions_boundary" {
  description = "The ARN of the policy that limits the role."
  type        = string
  default     = null
}

variable "ami" {
  description = "The NixOS AMI of new members."
  type        = string
  nullable    = false
}

variable "instance_type" {
  description = "The instance type. An installation evaluates NixOS, which needs about 2 GiB of memory and swap."
  type        = string
  default     = "t3.micro"
  nullable    = false
}

variable "vpc_security_group_ids" {
  description = "IDs of the members' security groups. npcnix needs no open port, only a way out to AWS."
  type        = list(string)
  nullable    = false
}

variable "root_volume_size" {
  description = "The size of the root volume in GiB. It is encrypted."
  type        = number
  default     = 8
  nullable    = false
}

variable "root_device_name" {
  description = "The name of the AMI's root device."
  type        = string
  default     = "/dev/xvda"
  nullable    = false
}

variable "metadata_hop_limit" {
  description = "How many network hops the instance metadata may travel: 1 keeps credentials on the host, 2 also gives them to containers."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.metadata_hop_limit >= 1 && var.metadata_hop_limit <= 64 && floor(var.metadata_hop_limit) == var.metadata_hop_limit
    error_message = "metadata_hop_limit must be a whole number from 1 to 64."
  }
}

variable "tags" {
  description = "Tags of everything that is created, of the members and of their root volumes."
  type        = map(string)
  default     = {}
  nullable    = false
}
