variable "region" {
  description = "The region of everything here."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to make."
  type        = string
}

variable "flake_dir" {
  description = "The directory of the flake.nix with the hosts' configurations, which are named HOST-REMOTE, such as web1-dev."
  type        = string
}

variable "hosts" {
  description = "The remotes, of which one is dev, and for each of them the names of its hosts."
  type        = map(set(string))
  default = {
    dev  = ["web1"]
    prod = ["web1", "web2"]
  }
}

variable "ami" {
  description = "The image of the hosts. Null: the newest NixOS when they are made."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "The hosts' type."
  type        = string
  default     = "t3.small"
}

variable "alarm_emails" {
  description = "Who is told of dead letters and of messages that nobody acts on."
  type        = set(string)
  default     = []
}
