# A store in one account and region, and hosts of another account: one with its queue in the store's region, which is
# the simplest, and one with its queue in a region of its own.

provider "aws" {
  region = var.region
}

provider "aws" {
  alias  = "hosts"
  region = var.hosts_region
  assume_role {
    role_arn = var.hosts_role_arn
  }
}

# The hosts' account, in the store's region: where its queues are subscribed.
provider "aws" {
  alias  = "hosts_near_store"
  region = var.region
  assume_role {
    role_arn = var.hosts_role_arn
  }
}

locals {
  hosts_account = split(":", var.hosts_role_arn)[4]
}

# The side of the store. It grants all that the other side needs: the topics let the account subscribe, the bucket lets
# it read and write records, and the key lets it decrypt.

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

# The records that the hosts' account writes belong to the store's.
resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

module "store" {
  source = "github.com/npcnix/npcnix//terraform/store_s3?ref=main"

  bucket   = aws_s3_bucket.store
  prefix   = "npcnix/remotes"
  remotes  = ["dev", "prod"]
  accounts = { dev = [local.hosts_account] }
  kms      = true

  depends_on = [aws_s3_bucket_public_access_block.store, aws_s3_bucket_ownership_controls.store]
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

# The side of the hosts.

module "web1" {
  source    = "github.com/npcnix/npcnix//terraform/host_queue?ref=main"
  providers = { aws = aws.hosts_near_store }

  remote = module.remote
  host   = "web1"
}

module "web2" {
  source    = "github.com/npcnix/npcnix//terraform/host_queue?ref=main"
  providers = { aws = aws.hosts }

  remote      = module.remote
  host        = "web2"
  subscribe   = false
  kms_key_arn = "" # the store's key is in the store's region
}

# By the queue's account, so that nobody must confirm it, and in the topic's region. A dead-letter queue of the
# subscription itself would have to be there too.
resource "aws_sns_topic_subscription" "web2" {
  provider = aws.hosts_near_store

  topic_arn            = module.web2.topic_arn
  protocol             = "sqs"
  endpoint             = module.web2.queue_arn
  raw_message_delivery = true
}
