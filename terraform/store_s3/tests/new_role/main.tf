# A root that makes a role that follows the remote, so that its ARN is not known.

resource "aws_iam_role" "new" {
  name = "npcnix"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

module "store" {
  source = "../.."

  bucket   = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet", region = "eu-central-1" }
  prefix   = "npcnix/remotes"
  remotes  = ["dev", "prod"]
  accounts = { dev = [aws_iam_role.new.arn] }
  kms      = true
}

output "keys" {
  value = [for remote in module.store.remotes : remote.key]
}
