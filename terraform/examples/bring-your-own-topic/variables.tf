variable "region" {
  description = "The region of everything here."
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to make."
  type        = string
}
