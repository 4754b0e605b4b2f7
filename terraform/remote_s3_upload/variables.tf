variable "remote" {
  description = "Where to publish: a module remote_s3, or any object with its url and region."
  type = object({
    url    = string
    region = optional(string)
  })
  nullable = false

  validation {
    condition     = can(regex("^s3://[^/?]+/[^?]+", var.remote.url))
    error_message = "The remote \"${var.remote.url}\" is not an object in S3. Use a URL such as s3://my-fleet/npcnix/remotes/dev.npcnix."
  }
}

variable "flake_dir" {
  description = "The directory of flake.nix, such as \"../../nixos\", relative to where Terraform runs."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists("${var.flake_dir}/flake.nix")
    error_message = "flake_dir \"${var.flake_dir}\" has no flake.nix. Name the directory of the flake, such as \"$${path.root}/nixos\"."
  }
  validation {
    condition     = !can(regex("[*?\\[\\]{}\\\\]", abspath(var.flake_dir)))
    error_message = "The path of flake_dir, \"${abspath(var.flake_dir)}\", contains one of * ? [ ] { } \\, which Terraform takes for a pattern. Rename that directory."
  }
}

variable "include" {
  description = "Publish only these directories at the top of the flake; each must exist and contain a file. Files at the top are always published. Empty: everything."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for d in var.include : can(regex("^[^/]+$", d)) && d != "." && d != ".."])
    error_message = "Each of include must be the name of a directory at the top of flake_dir, without slashes."
  }
  validation {
    # Terraform knows directories only by their files.
    condition = alltrue([
      for d in var.include : contains([".", ".."], d) ? true :
      length(fileset(var.flake_dir, "${replace(d, "/([*?\\[\\]{}\\\\])/", "\\$1")}/**")) > 0
    ])
    error_message = "Not each of include (${join(", ", var.include)}) is a directory of \"${var.flake_dir}\" that contains a file. Correct the names, or omit the missing ones."
  }
}

variable "npcnix" {
  description = "The npcnix program on the machine that runs Terraform: a name on PATH, or a path."
  type        = string
  default     = "npcnix"
  nullable    = false
}

variable "check_published" {
  description = "Whether each plan checks that the remote's object exists, and warns if it does not. That needs s3:ListBucket on the bucket, and a provider for its region."
  type        = bool
  default     = true
  nullable    = false
}
