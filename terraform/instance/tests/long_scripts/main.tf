# OpenTofu allows no functions in the variables of a test. Some characters have two bytes.

output "too_long" {
  value = join("", [for i in range(1000) : "ééééééé2"])
}

output "nearly_too_long" {
  value = join("", [for i in range(1000) : "ééééééé"])
}
