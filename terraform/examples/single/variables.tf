variable "region" {
  description = "The region of everything here."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to make."
  type        = string
}

variable "flake_dir" {
  description = "The directory of the flake.nix with the host's configuration, which is named web1."
  type        = string
}

variable "ami" {
  description = "The image of the host. Null: the newest NixOS when it is made."
  type        = string
  default     = null
}

variable "root_ssh_keys" {
  description = "SSH keys that let in as root, from within the network."
  type        = list(string)
  default     = []
}
