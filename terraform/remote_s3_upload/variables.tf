variable "remote" {
  description = "What to publish to: a module remote_s3, or anything with its url and region."
  type = object({
    url    = string
    region = optional(string)
  })
  nullable = false
}

variable "flake_dir" {
  description = "The directory of flake.nix, such as \"../../nixos\"; relative to where terraform runs."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists("${var.flake_dir}/flake.nix")
    error_message = "flake_dir \"${var.flake_dir}\" has no flake.nix: name the directory of the flake, for instance as \"$${path.root}/nixos\"."
  }
  validation {
    condition     = !can(regex("[*?\\[\\]{}\\\\]", abspath(var.flake_dir)))
    error_message = "flake_dir \"${abspath(var.flake_dir)}\" has one of * ? [ ] { } \\ in its path, which Terraform takes for a pattern: give it another name."
  }
}

variable "include" {
  description = "Of the directories at the top of the flake publish only these, each of which has to exist and hold a file; files at the top always are. Empty: all."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for d in var.include : can(regex("^[^/]+$", d)) && d != "." && d != ".."])
    error_message = "Each of include must be the name of a directory at the top of flake_dir, without slashes."
  }
  validation {
    # Terraform knows directories by their files alone.
    condition = alltrue([
      for d in var.include : contains([".", ".."], d) ? true :
      length(fileset(var.flake_dir, "${replace(d, "/([*?\\[\\]{}\\\\])/", "\\$1")}/**")) > 0
    ])
    error_message = "Not each of include (${join(", ", var.include)}) is a directory of \"${var.flake_dir}\" with a file in it. Correct the names, or leave out those that there are not."
  }
}

variable "npcnix" {
  description = "The npcnix program on the machine that runs terraform: a name on PATH, or a path."
  type        = string
  default     = "npcnix"
  nullable    = false
}
