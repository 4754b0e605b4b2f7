variable "npcnix_install_url" {
  description = "The flake reference that `nix run` runs on the host; its program accepts the arguments of `npcnix install`. Pin it (`?rev=…`) to control what new hosts run."
  type        = string
  default     = "github:npcnix/npcnix#install"
  nullable    = false

  validation {
    condition     = trimspace(var.npcnix_install_url) != "" && !strcontains(var.npcnix_install_url, "\n")
    error_message = "npcnix_install_url must be a flake reference on one line, such as \"github:npcnix/npcnix#install\"."
  }
}

variable "extra_substituters" {
  description = "Binary caches to use during the installation, besides the host's own."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for s in var.extra_substituters : can(regex("^\\S+$", s))])
    error_message = "Each of extra_substituters must be one URL, without spaces."
  }
}

variable "extra_trusted_public_keys" {
  description = "The public keys of extra_substituters, as NAME:KEY."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for k in var.extra_trusted_public_keys : can(regex("^[^\\s:]+:\\S+$", k))])
    error_message = "Each of extra_trusted_public_keys must be one key, as NAME:KEY, without spaces."
  }
}

variable "signers" {
  description = "Public keys: from its first boot on, a host accepts only releases that one of them has signed. Each is a line of a .pub file. Set the same keys in the NixOS configuration, which counts once it is applied."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for k in var.signers : trimspace(k) != "" && !strcontains(trimspace(k), "\n")])
    error_message = "Each of signers must be one key on one line."
  }
}

variable "swap_mb" {
  description = "The size in MiB of the temporary swap file on small machines, because evaluation needs about 2 GiB. 0: no swap."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.swap_mb >= 0 && floor(var.swap_mb) == var.swap_mb
    error_message = "swap_mb must be a whole number of MiB, or 0 for no swap."
  }
}

variable "min_memory_mb" {
  description = "Swap is created on machines that have less memory than this, in MiB, and no swap of their own."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.min_memory_mb >= 0 && floor(var.min_memory_mb) == var.min_memory_mb
    error_message = "min_memory_mb must be a whole number of MiB."
  }
}
