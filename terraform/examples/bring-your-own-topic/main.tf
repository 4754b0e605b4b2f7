# A bucket whose notification and topic are yours already: others hear of the same publishes. npcnix adds
# the queue and the policy of a host that is not on EC2.

provider "aws" {
  region = var.region
}

# What you have: a bucket, a topic, and the one notification a bucket can have.

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

# What npcnix adds. The store makes neither topics nor a notification.

module "store" {
  source = "../../store_s3"

  bucket  = aws_s3_bucket.store
  prefix  = "npcnix/remotes"
  remotes = ["dev"]
  events  = false
}

module "remote" {
  source = "../../remote_s3"

  store = module.store
  name  = "dev"
  topic = aws_sns_topic.deploys
}

module "web1" {
  source = "../../host_queue"

  remote = module.remote
  host   = "web1"
}
