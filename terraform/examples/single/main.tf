# From a bucket to a running host that reconfigures itself seconds after a publish.

provider "aws" {
  region = var.region
}

resource "aws_s3_bucket" "store" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

module "store" {
  source = "../../store_s3"

  bucket  = aws_s3_bucket.store
  prefix  = "npcnix/remotes"
  remotes = ["dev"]
}

module "remote" {
  source = "../../remote_s3"

  store = module.store
  name  = "dev"
}

module "upload" {
  source = "../../remote_s3_upload"

  remote    = module.remote
  flake_dir = var.flake_dir
}

module "install" {
  source = "../../install"
}

module "host" {
  source = "../../instance"

  remote        = module.remote
  install       = module.install
  hostname      = "web1"
  configuration = "web1"
  subnet        = merge(data.aws_subnet.host, { vpc = data.aws_vpc.default })
  ami           = var.ami == null ? data.aws_ami.nixos[0].id : var.ami
  instance_type = "t3.small"

  root_access   = length(var.root_ssh_keys) > 0
  root_ssh_keys = var.root_ssh_keys
}

# Where the host is: the account's default network, and the newest NixOS unless told.

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
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
