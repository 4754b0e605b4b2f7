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
  description = "The NixOS configuration in the remote's flake, for all hosts. Null: <name>-<hostname_base>, of each its own."
  type        = string
  default     = null
}

variable "install" {
  description = "The module install, which puts npcnix on the host at its first boot. Null where the AMI has it."
  type        = object({ install_script = string })
  default     = null
}

variable "queue" {
  description = "Whether each host has a queue of its own that tells it of publishes; without one it polls. Null: if the remote has events."
  type        = bool
  default     = null
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
  description = "What else each host may do: policies, by a name of your choice."
  type        = map(object({ arn = string }))
  default     = {}
  nullable    = false
}

variable "hosts" {
  description = "The hosts, by name: the subnet of each, an aws_subnet."
  type = map(object({
    subnet = object({
      id                              = string
      assign_ipv6_address_on_creation = optional(bool, false)
    })
  }))
  nullable = false
}

variable "hostname_base" {
  description = "What follows the names: the hosts are called <name>.<hostname_base>."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.hostname_base))
    error_message = "\"${var.hostname_base}\" does not make host names. Use letters, digits, dots, underscores and dashes, with a letter or digit at both ends."
  }
}

variable "dns_zone" {
  description = "The Route 53 zone that gets private.<name>.<hostname_base>.<zone> for each host: a zone resource or data source. Null: no names."
  type        = object({ zone_id = string, name = string })
  default     = null
}

variable "vpc" {
  description = "The aws_vpc that all the subnets are of."
  type = object({
    id              = string
    cidr_block      = string
    ipv6_cidr_block = optional(string)
  })
  nullable = false
}

variable "eip" {
  description = "Whether each host has an Elastic IP."
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
  description = "Tags of all that is made."
  type        = map(string)
  default     = {}
  nullable    = false
}
