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
  description = "The directory of the flake.nix. It must contain the configuration of all members, web."
  type        = string
}

variable "members" {
  description = "How many instances the group has at first."
  type        = number
  default     = 2
}

variable "ami" {
  description = "The AMI of new members. Null: the newest NixOS at each apply."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete the bucket with everything in it. Apply it before you destroy."
  type        = bool
  default     = false
}
