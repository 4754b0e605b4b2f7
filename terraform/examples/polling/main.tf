# A plain store without events: the host polls it every 5 to 120 s.

provider "aws" {
  region = var.region
}

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
  remotes = ["dev"]
  events  = false
}

module "remote" {
  source = "github.com/npcnix/npcnix//terraform/remote_s3?ref=main"

  store = module.store
  name  = "dev"
}

module "upload" {
  source = "github.com/npcnix/npcnix//terraform/remote_s3_upload?ref=main"

  remote    = module.remote
  flake_dir = var.flake_dir
}

# Hosts fetch prebuilt systems from it. Its URL is for npcnix push --prebuild --cache.
module "cache" {
  source = "github.com/npcnix/npcnix//terraform/cache_s3?ref=main"
  count  = var.cache_bucket == null ? 0 : 1

  name          = var.cache_bucket
  force_destroy = var.force_destroy
}

module "install" {
  source = "github.com/npcnix/npcnix//terraform/install?ref=main"
}

module "host" {
  source = "github.com/npcnix/npcnix//terraform/instance?ref=main"

  remote        = module.remote
  install       = module.install
  hostname      = "web1"
  configuration = "web1"
  subnet        = merge(data.aws_subnet.host, { vpc = { cidr_block = data.aws_vpc.default.cidr_block } })
  ami           = var.ami == null ? data.aws_ami.nixos[0].id : var.ami
  instance_type = "t3.small"

  root_access   = length(var.root_ssh_keys) > 0
  root_ssh_keys = var.root_ssh_keys
  iam_policies  = { for cache in module.cache : "cache" => { arn = cache.read_policy_arn } }
}

# The account's default network, and the newest NixOS unless var.ami names another image.

data "aws_vpc" "default" {
  default = true
}

# Not each zone has each type of instance, and only the default subnets surely give public addresses.
data "aws_ec2_instance_type_offerings" "host" {
  location_type = "availability-zone"
  filter {
    name   = "instance-type"
    values = ["t3.small"]
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
    values = data.aws_ec2_instance_type_offerings.host.locations
  }
}

data "aws_subnet" "host" {
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
