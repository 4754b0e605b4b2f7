# OpenTofu allows no functions in the variables of a test.

output "names" {
  value = [for i in range(101) : "r${i}"]
}
