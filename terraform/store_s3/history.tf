# What npcnix history shows, and npcnix rollback goes back to.

resource "aws_s3_bucket_versioning" "store" {
  count = var.history == null ? 0 : 1

  bucket = var.bucket.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  count = var.history == null ? 0 : 1

  bucket = aws_s3_bucket_versioning.store[0].bucket

  rule {
    id     = "publishes"
    status = "Enabled"
    filter {
      prefix = "${var.prefix}/"
    }
    noncurrent_version_expiration {
      noncurrent_days           = var.history.days
      newer_noncurrent_versions = var.history.newest
    }
  }

  # Each host writes its record at least every hour, and only the newest one is of use. The rule above matches records
  # too; of two rules, S3 takes the one that expires sooner.
  dynamic "rule" {
    for_each = local.keys
    content {
      id     = "records-of-${rule.key}"
      status = "Enabled"
      filter {
        prefix = "${rule.value}.acks/"
      }
      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }
}
