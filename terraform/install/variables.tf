variable "npcnix_install_url" {
  description = "What `nix run` runs on the host: a flake reference whose program takes the arguments of `npcnix install`. Pin it (`?rev=…`) to know what new hosts will run."
  type        = string
  default     = "github:npcnix/npcnix#install"
  nullable    = false

  validation {
    condition     = trimspace(var.npcnix_install_url) != "" && !strcontains(var.npcnix_install_url, "\n")
    error_message = "npcnix_install_url must be a flake reference on one line, such as \"github:npcnix/npcnix#install\"."
  }
}

variable "extra_substituters" {
  description = "Binary caches that the host asks besides its own during the installation."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for s in var.extra_substituters : can(regex("^\\S+$", s))])
    error_message = "Each of extra_substituters must be one URL, without blanks."
  }
}

variable "extra_trusted_public_keys" {
  description = "Keys of extra_substituters, as NAME:KEY."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for k in var.extra_trusted_public_keys : can(regex("^[^\\s:]+:\\S+$", k))])
    error_message = "Each of extra_trusted_public_keys must be one key, as NAME:KEY, without blanks."
  }
}

variable "swap_mb" {
  description = "MiB of temporary swap on small machines, for evaluation takes about 2 GiB. 0: none."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.swap_mb >= 0 && floor(var.swap_mb) == var.swap_mb
    error_message = "swap_mb must be a whole number of MiB; 0 for no swap."
  }
}

variable "min_memory_mb" {
  description = "Swap is made on machines with less MiB of memory than this, and no swap of their own."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.min_memory_mb >= 0 && floor(var.min_memory_mb) == var.min_memory_mb
    error_message = "min_memory_mb must be a whole number of MiB."
  }
}
