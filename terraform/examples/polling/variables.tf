variable "region" {
  description = "The region of everything in this example."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to create."
  type        = string
}

variable "cache_bucket" {
  description = "The name of a bucket to create for prebuilt systems. Null: the host builds."
  type        = string
  default     = null
}

variable "flake_dir" {
  description = "The directory of the flake.nix. It must contain the host's configuration, web1."
  type        = string
}

variable "ami" {
  description = "The AMI of the host. Null: the newest NixOS when the host is created."
  type        = string
  default     = null
}

variable "root_ssh_keys" {
  description = "SSH public keys that can log in as root, from within the network."
  type        = list(string)
  default     = []
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete the bucket with everything in it, all versions included. Apply it before you destroy."
  type        = bool
  default     = false
}
