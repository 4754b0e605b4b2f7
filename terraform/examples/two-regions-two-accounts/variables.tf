variable "region" {
  description = "The region of the store."
  type        = string
}

variable "hosts_region" {
  description = "The region of the host web2."
  type        = string
}

variable "hosts_role_arn" {
  description = "The role to assume in the account of the hosts."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to create."
  type        = string
}

variable "flake_dir" {
  description = "The directory of the flake.nix. It must contain the configurations web1 and web2."
  type        = string
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete the bucket with everything in it. Apply it before you destroy."
  type        = bool
  default     = false
}
