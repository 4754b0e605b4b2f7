# A bucket whose notification and topic you manage yourself, because others need them too. npcnix adds the queue and
# the policy of a host that is not on EC2.

provider "aws" {
  region = var.region
}

# What you have: a bucket, a topic, and the only notification that the bucket can have.

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

resource "aws_sns_topic" "deploys" {
  name = "deploys"
}

data "aws_caller_identity" "current" {}

resource "aws_sns_topic_policy" "deploys" {
  arn = aws_sns_topic.deploys.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.deploys.arn
      Condition = {
        ArnLike      = { "aws:SourceArn" = aws_s3_bucket.store.arn }
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
      }
    }]
  })
}

resource "aws_s3_bucket_notification" "store" {
  bucket = aws_s3_bucket.store.id

  topic {
    topic_arn     = aws_sns_topic.deploys.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "npcnix/remotes/dev.npcnix"
    filter_suffix = ".npcnix"
  }

  # Further topic, queue and lambda_function blocks of yours go here.

  depends_on = [aws_sns_topic_policy.deploys]
}

# If module store has written this bucket's notification before, this hands it over. Without it, Terraform would delete
# the old notification and create the new one at the same time; if the deletion came last, the bucket would have none.
moved {
  from = module.store.aws_s3_bucket_notification.store[0]
  to   = aws_s3_bucket_notification.store
}

# What npcnix adds. The store creates neither topics nor a notification.

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
  topic = aws_sns_topic.deploys
}

module "web1" {
  source = "github.com/npcnix/npcnix//terraform/host_queue?ref=main"

  remote = module.remote
  host   = "web1"
}
