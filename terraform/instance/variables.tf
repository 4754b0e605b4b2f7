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

variable "configuration" {
  description = "The NixOS configuration in the remote's flake. Null: the host name."
  type        = string
  default     = null

  validation {
    condition     = var.configuration == null || can(regex("^[^\"\\n]+$", var.configuration))
    error_message = "configuration must be a name without quotes or line breaks; leave it away for the host name."
  }
}

variable "install" {
  description = "The module install, which puts npcnix on the host at its first boot. Null where the AMI has it."
  type        = object({ install_script = string })
  default     = null
}

variable "queue" {
  description = "Whether the host has a queue that tells it of publishes; without one it polls. Null: if the remote has events."
  type        = bool
  default     = null

  validation {
    condition     = !coalesce(var.queue, false) || var.remote.events
    error_message = "The remote \"${var.remote.name}\" has no events, so nothing would ever come into a queue. Set events = true in module store_s3, or leave queue away: the host then polls."
  }
}

variable "lease_secs" {
  description = "See module host_queue."
  type        = number
  default     = 120
  nullable    = false
}

variable "max_receive_count" {
  description = "See module host_queue."
  type        = number
  default     = 10
  nullable    = false
}

variable "alarms" {
  description = "CloudWatch alarms on the queue; see module host_queue."
  type = object({
    actions             = list(string)
    oldest_message_secs = optional(number, 3600)
  })
  default = null
}

variable "root_access" {
  description = "Whether root_ssh_keys let in as root. If not, no key does."
  type        = bool
  default     = false
  nullable    = false
}

variable "root_ssh_keys" {
  description = "SSH public keys for root, with root_access."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for k in var.root_ssh_keys : trimspace(k) != "" && !strcontains(trimspace(k), "\n")])
    error_message = "Each of root_ssh_keys must be one key, on one line."
  }
}

variable "pre_install_script" {
  description = "Shell text that runs before npcnix is installed. What it exports, nix sees. If it fails, npcnix is not installed, and the next boot begins with it again."
  type        = string
  default     = ""
  nullable    = false
}

variable "post_install_script" {
  description = "Shell text that runs once npcnix is installed; at the next boots again until it has succeeded, then never again."
  type        = string
  default     = ""
  nullable    = false
}

variable "user_data_replace_on_change" {
  description = "Whether a change of the scripts, keys or settings replaces the instance. If not, it is stopped and started, and only root's keys and another remote, region, queue or host name take effect."
  type        = bool
  default     = false
  nullable    = false
}

variable "iam_policies" {
  description = "What else the host may do: policies, by a name of your choice."
  type        = map(object({ arn = string }))
  default     = {}
  nullable    = false
}

variable "hostname" {
  description = "Names the host: in its queue, its record, its tags and the DNS."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.hostname))
    error_message = "\"${var.hostname}\" is not a host name. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
}

variable "dns_zone" {
  description = "The Route 53 zone that gets private.<hostname>.<zone>: a zone resource or data source. Null: no names."
  type        = object({ zone_id = string, name = string })
  default     = null
}

variable "subnet" {
  description = "Where the host is: an aws_subnet, with its vpc beside, which internal_tcp_ports need: `merge(aws_subnet.a, { vpc = aws_vpc.main })`."
  type = object({
    id                              = string
    vpc_id                          = string
    assign_ipv6_address_on_creation = optional(bool, false)
    vpc = optional(object({
      cidr_block      = string
      ipv6_cidr_block = optional(string)
    }))
  })
  nullable = false
}

variable "eip" {
  description = "Whether the host has an Elastic IP."
  type        = bool
  default     = false
  nullable    = false
}

variable "ami" {
  description = "The NixOS AMI of the first boot. Another one later changes nothing."
  type        = string
  nullable    = false
}

variable "instance_type" {
  description = "The instance type."
  type        = string
  default     = "t3.micro"
  nullable    = false
}

variable "root_volume_size" {
  description = "GiB of the root volume."
  type        = number
  default     = 8
  nullable    = false
}

variable "metadata_hop_limit" {
  description = "How far the instance's credentials travel: 1 keeps them on the host, 2 lets containers have them too."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.metadata_hop_limit >= 1 && var.metadata_hop_limit <= 64 && floor(var.metadata_hop_limit) == var.metadata_hop_limit
    error_message = "metadata_hop_limit must be a whole number from 1 to 64."
  }
}

variable "public_tcp_ports" {
  description = "TCP ports open to everybody."
  type        = list(number)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for p in var.public_tcp_ports : p >= 1 && p <= 65535])
    error_message = "Each of public_tcp_ports must be from 1 to 65535."
  }
}

variable "internal_tcp_ports" {
  description = "TCP ports open to the VPC."
  type        = list(number)
  default     = [22]
  nullable    = false

  validation {
    condition     = alltrue([for p in var.internal_tcp_ports : p >= 1 && p <= 65535])
    error_message = "Each of internal_tcp_ports must be from 1 to 65535."
  }
  validation {
    condition     = length(var.internal_tcp_ports) == 0 || var.subnet.vpc != null
    error_message = "internal_tcp_ports are opened to the VPC, so its address range must be known: pass subnet = merge(aws_subnet.…, { vpc = aws_vpc.… }), or internal_tcp_ports = []."
  }
}

variable "tags" {
  description = "Tags of all that is made."
  type        = map(string)
  default     = {}
  nullable    = false
}
