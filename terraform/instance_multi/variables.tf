variable "create" {
  description = "Whether to create anything. False removes the hosts."
  type        = bool
  default     = true
  nullable    = false
}

variable "remote" {
  description = "The remote that the hosts follow: the module remote_s3."
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
  description = "The NixOS configuration in the remote's flake, for all hosts. Null: <name>-<hostname_base>, a different one for each host."
  type        = string
  default     = null
}

variable "install" {
  description = "The module install, which installs npcnix at the first boot. Null if the AMI contains npcnix."
  type        = object({ install_script = string })
  default     = null
}

variable "queue" {
  description = "Whether each host has a queue that announces publishes; otherwise it polls. Null: whether the remote has events."
  type        = bool
  default     = null
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

variable "hosts" {
  description = "The hosts by name, each with its subnet, an aws_subnet."
  type = map(object({
    subnet = object({
      id                              = string
      assign_ipv6_address_on_creation = optional(bool, false)
    })
  }))
  nullable = false
}

variable "hostname_base" {
  description = "The second part of the host names, which are <name>.<hostname_base>."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.hostname_base))
    error_message = "\"${var.hostname_base}\" cannot be part of host names. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
}

variable "iam_policies" {
  description = "Further policies for each host's role, by a name of your choice."
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
  description = "Whether to create a role for each instance profile. If not, all hosts share the role iam_role_name."
  type        = bool
  default     = true
  nullable    = false
}

variable "iam_role_name" {
  description = "The name of the existing role that all hosts share, with create_iam_role = false. Each of them can then do what any of them can."
  type        = string
  default     = null

  validation {
    condition     = (var.iam_role_name == null) == var.create_iam_role
    error_message = "Set iam_role_name exactly if create_iam_role is false."
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

variable "vpc" {
  description = "The aws_vpc of all the subnets."
  type = object({
    id              = string
    cidr_block      = string
    ipv6_cidr_block = optional(string)
  })
  nullable = false
}

variable "dns_zone" {
  description = "The Route 53 zone for private.<name>.<hostname_base>.<zone> of each host: a zone resource or data source. Null: no names."
  type        = object({ zone_id = string, name = string })
  default     = null
}

variable "eip" {
  description = "Whether each host has an Elastic IP."
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
}

variable "metadata_hop_limit" {
  description = "How many network hops the instance metadata may travel: 1 keeps credentials on the host, 2 also gives them to containers."
  type        = number
  default     = 1
  nullable    = false
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
}

variable "internal_tcp_ports" {
  description = "TCP ports open to the VPC."
  type        = list(number)
  default     = [22]
  nullable    = false
}

variable "tags" {
  description = "Tags of everything that is created, including root volumes."
  type        = map(string)
  default     = {}
  nullable    = false
}
