# A root that makes the bucket and its store at once, so that the bucket's id, ARN and region are not known.

resource "aws_s3_bucket" "new" {
  bucket = "my-fleet"
}

module "store" {
  source = "../.."

  bucket  = aws_s3_bucket.new
  prefix  = "npcnix/remotes"
  remotes = ["dev", "prod"]
  kms     = true
}

output "names" {
  value = toset(keys(module.store.remotes))
}

output "keys" {
  value = [for remote in module.store.remotes : remote.key]
}
