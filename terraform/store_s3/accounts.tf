# Who follows remotes from other accounts. Topic, bucket and key each admit them; their own IAM decides which of their
# users and roles that means.

locals {
  # By remote, the IDs of accounts; and by remote and account, the roles that alone may read, or none if all may.
  accounts = { for name in var.remotes : name => sort(distinct([
    for who in lookup(var.accounts, name, []) : startswith(who, "arn:") ? split(":", who)[4] : who
  ])) }
  followers = flatten([for name in sort(var.remotes) : [for id in local.accounts[name] : {
    remote = name
    id     = id
    roles  = contains(var.accounts[name], id) ? [] : sort([for who in var.accounts[name] : who if startswith(who, "arn:${local.partition}:iam::${id}:")])
  }]])

  # A role is named in a condition: S3 refuses a policy with a principal that is not there yet.
  bucket_policy_statements = flatten([for f in local.followers : [for do in [
    { name = "Read", action = "s3:GetObject", object = local.keys[f.remote] },
    { name = "Record", action = "s3:PutObject", object = "${local.keys[f.remote]}.acks/*" },
    ] : merge(
    {
      Sid       = "${do.name}${f.id}${substr(sha256(local.keys[f.remote]), 0, 8)}"
      Effect    = "Allow"
      Principal = { AWS = "arn:${local.partition}:iam::${f.id}:root" }
      Action    = do.action
      Resource  = "${var.bucket.arn}/${do.object}"
    },
    length(f.roles) == 0 ? {} : { Condition = { ArnLike = { "aws:PrincipalArn" = f.roles } } },
  )]])
}

resource "aws_s3_bucket_policy" "store" {
  # By what is known at plan: an ARN may come from a role that is created in the same apply.
  count = length(var.accounts) > 0 && var.manage_bucket_policy ? 1 : 0

  bucket = var.bucket.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.bucket_policy_statements })

  lifecycle {
    precondition {
      condition     = length(jsonencode(local.bucket_policy_statements)) < 20000
      error_message = "So many followers from other accounts make a bucket policy of ${length(jsonencode(local.bucket_policy_statements))} bytes, but S3 accepts 20480. Name accounts instead of their roles, or use several buckets."
    }
  }
}
