variable "region" {
  description = "The region of everything in this example."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to create."
  type        = string
}

variable "cache_bucket" {
  description = "The name of a bucket to create for prebuilt systems. Null: the hosts build."
  type        = string
  default     = null
}

variable "flake_dir" {
  description = "The directory of the flake.nix. It must contain the hosts' configurations, named HOST-REMOTE, such as web1-dev."
  type        = string
}

variable "hosts" {
  description = "The names of the hosts of each remote. One of the remotes must be dev."
  type        = map(set(string))
  default = {
    dev  = ["web1"]
    prod = ["web1", "web2"]
  }
}

variable "ami" {
  description = "The AMI of the hosts. Null: the newest NixOS when they are created."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "The instance type of the hosts."
  type        = string
  default     = "t3.small"
}

variable "alarm_emails" {
  description = "Who is notified of dead letters and of messages that no host acts on."
  type        = set(string)
  default     = []
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete the bucket with everything in it, all versions included. Apply it before you destroy."
  type        = bool
  default     = false
}
