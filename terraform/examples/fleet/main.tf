# Two remotes in one bucket, each followed by hosts of its own. Terraform publishes to dev; CI publishes to both, with
# the policies of module gate.

provider "aws" {
  region = var.region
}

# The store: a bucket, a topic per remote, and the bucket's notification.

resource "aws_s3_bucket" "store" {
  bucket        = var.bucket
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Versions show what was published when, and bring it back.
resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id

  versioning_configuration {
    status = "Enabled"
  }
}

# Each host writes its record at least every hour, and only the newest one is of use.
resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket_versioning.store.bucket

  dynamic "rule" {
    for_each = module.store.remotes
    content {
      id     = "records-of-${rule.key}"
      status = "Enabled"

      filter {
        prefix = "${rule.value.key}.acks/"
      }
      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }

  rule {
    id     = "publishes"
    status = "Enabled"

    filter {
      prefix = "npcnix/remotes/"
    }
    noncurrent_version_expiration {
      noncurrent_days = 90
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

module "store" {
  source = "github.com/npcnix/npcnix//terraform/store_s3?ref=main"

  bucket  = aws_s3_bucket.store
  prefix  = "npcnix/remotes"
  remotes = keys(var.hosts)
}

module "remote" {
  source   = "github.com/npcnix/npcnix//terraform/remote_s3?ref=main"
  for_each = var.hosts

  store = module.store
  name  = each.key
}

# Publishes the flake to dev whenever it has changed.

module "upload" {
  source = "github.com/npcnix/npcnix//terraform/remote_s3_upload?ref=main"

  remote    = module.remote["dev"]
  flake_dir = var.flake_dir
}

# Hosts fetch prebuilt systems from it. Its URL is for npcnix push --prebuild --cache.
module "cache" {
  source = "github.com/npcnix/npcnix//terraform/cache_s3?ref=main"
  count  = var.cache_bucket == null ? 0 : 1

  name          = var.cache_bucket
  force_destroy = var.force_destroy
}

# The hosts, each with a role, a queue and alarms of its own.

module "install" {
  source = "github.com/npcnix/npcnix//terraform/install?ref=main"
}

module "hosts" {
  source   = "github.com/npcnix/npcnix//terraform/instance_multi?ref=main"
  for_each = var.hosts

  remote        = module.remote[each.key]
  install       = module.install
  hostname_base = each.key
  hosts         = { for name in each.value : name => { subnet = data.aws_subnet.hosts } }
  vpc           = { id = data.aws_vpc.default.id, cidr_block = data.aws_vpc.default.cidr_block }
  ami           = var.ami == null ? data.aws_ami.nixos[0].id : var.ami
  instance_type = var.instance_type
  alarms        = { actions = [aws_sns_topic.alarms.arn] }
  iam_policies  = { for cache in module.cache : "cache" => { arn = cache.read_policy_arn } }
}

resource "aws_sns_topic" "alarms" {
  name = "npcnix-alarms"
}

resource "aws_sns_topic_subscription" "alarms" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

# CI: whoever in this account may assume the role may publish to the remote and watch its hosts.

module "gate" {
  source   = "github.com/npcnix/npcnix//terraform/gate?ref=main"
  for_each = module.remote

  remote = each.value
}

resource "aws_iam_role" "ci" {
  for_each = module.remote

  name = substr("npcnix-ci-${each.key}", 0, 64) # IAM accepts no more
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { AWS = data.aws_caller_identity.current.account_id }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "ci" {
  for_each = module.gate

  role       = aws_iam_role.ci[each.key].name
  policy_arn = each.value.policy_arn
}

resource "aws_iam_role_policy_attachment" "ci_cache" {
  for_each = var.cache_bucket == null ? {} : aws_iam_role.ci

  role       = each.value.name
  policy_arn = module.cache[0].write_policy_arn
}

# The account's default network, and the newest NixOS unless var.ami names another image.

data "aws_caller_identity" "current" {}

data "aws_vpc" "default" {
  default = true
}

# Not each zone has each type of instance, and only the default subnets surely give public addresses.
data "aws_ec2_instance_type_offerings" "hosts" {
  location_type = "availability-zone"
  filter {
    name   = "instance-type"
    values = [var.instance_type]
  }
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
  filter {
    name   = "default-for-az"
    values = ["true"]
  }
  filter {
    name   = "availability-zone"
    values = data.aws_ec2_instance_type_offerings.hosts.locations
  }
}

data "aws_subnet" "hosts" {
  id = sort(data.aws_subnets.default.ids)[0]
}

data "aws_ami" "nixos" {
  count = var.ami == null ? 1 : 0

  owners      = ["427812963091"] # NixOS
  most_recent = true
  filter {
    name   = "name"
    values = ["nixos/*"]
  }
  filter {
    name   = "architecture"
    values = ["x86_64"]
  }
}
