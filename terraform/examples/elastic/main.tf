# An Auto Scaling Group whose instances follow a remote: each makes a queue of its own when it starts.

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

module "store" {
  source = "github.com/npcnix/npcnix//terraform/store_s3?ref=main"

  bucket  = aws_s3_bucket.store
  prefix  = "npcnix/remotes"
  remotes = ["dev"]
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

module "web" {
  source = "github.com/npcnix/npcnix//terraform/elastic_hosts?ref=main"

  remote                 = module.remote
  name                   = "web"
  install                = module.install
  ami                    = var.ami == null ? data.aws_ami.nixos[0].id : var.ami
  instance_type          = "t3.small"
  vpc_security_group_ids = [aws_security_group.web.id]
  iam_policies           = { for cache in module.cache : "cache" => { arn = cache.read_policy_arn } }
}

resource "aws_security_group" "web" {
  name        = "npcnix-web"
  description = "npcnix hosts web"
  vpc_id      = data.aws_vpc.default.id

  egress {
    description      = "everywhere"
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
}

resource "aws_autoscaling_group" "web" {
  name_prefix         = "npcnix-web-"
  min_size            = 0
  max_size            = 100
  desired_capacity    = var.members
  vpc_zone_identifier = data.aws_subnets.default.ids

  launch_template {
    id      = module.web.launch_template.id
    version = module.web.launch_template.version
  }

  lifecycle {
    ignore_changes = [desired_capacity] # scaling policies change it
  }

  # The flake is there before its hosts.
  depends_on = [module.upload]
}

# The account's default network, and the newest NixOS unless var.ami names another image.

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
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
