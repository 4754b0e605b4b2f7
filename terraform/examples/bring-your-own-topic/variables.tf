variable "region" {
  description = "The region of everything in this example."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to create."
  type        = string
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete the bucket with everything in it, all versions included. Apply it before you destroy."
  type        = bool
  default     = false
}
