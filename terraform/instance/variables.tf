variable "create" {
  description = "Whether to create anything. False removes the host."
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
    accounts    = optional(list(string))
  })
  nullable = false
}

variable "configuration" {
  description = "The NixOS configuration in the remote's flake. Null: the host name."
  type        = string
  default     = null

  validation {
    condition     = var.configuration == null || can(regex("^[^\"\\n]+$", var.configuration))
    error_message = "configuration must be a name without quotes or line breaks. Omit it to use the host name."
  }
}

variable "install" {
  description = "The module install, which installs npcnix at the first boot. Null if the AMI contains npcnix."
  type        = object({ install_script = string })
  default     = null
}

variable "queue" {
  description = "Whether the host has a queue that announces publishes; otherwise it polls. Null: whether the remote has events."
  type        = bool
  default     = null

  validation {
    condition     = !coalesce(var.queue, false) || var.remote.events
    error_message = "The remote \"${var.remote.name}\" has no events, so nothing would ever arrive in a queue. Set events = true in module store_s3, or omit queue; the host then polls."
  }
}

variable "subscribe" {
  description = "Whether to subscribe the queue to the topic. False in another region than the topic's; see module host_queue."
  type        = bool
  default     = true
  nullable    = false
}

variable "queue_kms_key_arn" {
  description = "The key of the queue, if it is not the store's; see module host_queue."
  type        = string
  default     = null
}

variable "lease_secs" {
  description = "Visibility timeout of the queue in seconds; see module host_queue."
  type        = number
  default     = 120
  nullable    = false
}

variable "max_receive_count" {
  description = "How often a message can be received before it becomes a dead letter; see module host_queue."
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
  description = "Whether root_ssh_keys can log in as root. If not, no key can."
  type        = bool
  default     = false
  nullable    = false
}

variable "root_ssh_keys" {
  description = "SSH public keys for root. They need root_access."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for k in var.root_ssh_keys : trimspace(k) != "" && !strcontains(trimspace(k), "\n")])
    error_message = "Each of root_ssh_keys must be one key on one line."
  }
}

variable "pre_install_script" {
  description = "Shell text that runs before npcnix is installed. Its exported variables reach nix. If it fails, npcnix is not installed and the next boot starts with it again."
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

variable "user_data_replace_on_change" {
  description = "Whether a change of scripts, keys or settings replaces the instance. If not, the instance is stopped and started, and only root's keys and another remote, region, queue or host name take effect."
  type        = bool
  default     = false
  nullable    = false
}

variable "hostname" {
  description = "The name of the host in its queue, record, tags and DNS names."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.hostname))
    error_message = "\"${var.hostname}\" is not a host name. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
}

variable "iam_policies" {
  description = "Further policies for the host's role, by a name of your choice."
  type        = map(object({ arn = string }))
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.iam_policies) == 0 || var.create_iam_instance_profile
    error_message = "iam_policies are attached to the role of an instance profile that this module creates. Attach them to the role of \"${coalesce(var.iam_instance_profile, "your profile")}\" yourself."
  }
}

variable "create_iam_instance_profile" {
  description = "Whether to create an instance profile and put the policy of npcnix on its role. If not, name a profile in iam_instance_profile."
  type        = bool
  default     = true
  nullable    = false
}

variable "iam_instance_profile" {
  description = "The name of an existing instance profile, with create_iam_instance_profile = false. Add policy_json to its role."
  type        = string
  default     = null

  validation {
    condition     = (var.iam_instance_profile == null) == var.create_iam_instance_profile
    error_message = "Set iam_instance_profile exactly if create_iam_instance_profile is false."
  }
}

variable "create_iam_role" {
  description = "Whether to create a role for the instance profile. If not, name a role in iam_role_name."
  type        = bool
  default     = true
  nullable    = false
}

variable "iam_role_name" {
  description = "The name of the role: of the one to create (null: a generated name), or with create_iam_role = false of the existing one."
  type        = string
  default     = null

  validation {
    condition     = var.create_iam_role || var.iam_role_name != null
    error_message = "With create_iam_role = false, iam_role_name must name the existing role."
  }
}

variable "iam_role_path" {
  description = "The path of role and instance profile, such as \"/npcnix/\"."
  type        = string
  default     = null
}

variable "iam_role_permissions_boundary" {
  description = "The ARN of the policy that limits the role that is created."
  type        = string
  default     = null
}

variable "subnet" {
  description = "The host's subnet: an aws_subnet with its VPC added, which internal_tcp_ports need: merge(aws_subnet.a, { vpc = aws_vpc.main })."
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

variable "dns_zone" {
  description = "The Route 53 zone for private.<hostname>.<zone>: a zone resource or data source. Null: no names."
  type        = object({ zone_id = string, name = string })
  default     = null
}

variable "eip" {
  description = "Whether the host has an Elastic IP."
  type        = bool
  default     = false
  nullable    = false
}

variable "ami" {
  description = "The NixOS AMI of the first boot. Another AMI changes nothing later."
  type        = string
  nullable    = false
}

variable "instance_type" {
  description = "The instance type. An installation evaluates NixOS, which needs about 2 GiB of memory and swap."
  type        = string
  default     = "t3.micro"
  nullable    = false
}

variable "root_volume_size" {
  description = "The size of the root volume in GiB."
  type        = number
  default     = 8
  nullable    = false
}

variable "root_block_device" {
  description = "Further properties of the root volume, which is always encrypted. Without kms_key_id, the account's default key encrypts it."
  type = object({
    kms_key_id            = optional(string)
    type                  = optional(string, "gp3")
    iops                  = optional(number)
    throughput            = optional(number)
    delete_on_termination = optional(bool, true)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.root_block_device.kms_key_id == null ? true : startswith(var.root_block_device.kms_key_id, "arn:")
    error_message = "root_block_device.kms_key_id must be the ARN of a key. EC2 returns the ARN, so any other form would plan a change each time."
  }
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

variable "vpc_security_group_ids" {
  description = "IDs of further security groups, besides the host's own."
  type        = list(string)
  default     = []
  nullable    = false
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
    error_message = "internal_tcp_ports are opened to the VPC, so its address range must be known. Pass subnet = merge(aws_subnet.…, { vpc = aws_vpc.… }), or internal_tcp_ports = []."
  }
}

variable "tags" {
  description = "Tags of everything that is created, including root volumes."
  type        = map(string)
  default     = {}
  nullable    = false
}
