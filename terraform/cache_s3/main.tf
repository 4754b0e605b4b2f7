# A bucket for a binary cache: what npcnix push --prebuild copies to it, hosts fetch.

locals {
  read_name  = "npcnix-cache-read-${var.name}"
  write_name = "npcnix-cache-write-${var.name}"
  gc_name    = "npcnix-cache-gc-${var.name}"

  # A cache that cannot be listed answers 403 for what it lacks, which hides what is wrong.
  list = {
    Sid      = "ListCache"
    Effect   = "Allow"
    Action   = ["s3:ListBucket", "s3:GetBucketLocation"]
    Resource = aws_s3_bucket.cache.arn
  }
  read = jsonencode({
    Version = "2012-10-17"
    Statement = [local.list, {
      Sid      = "ReadCache"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = "${aws_s3_bucket.cache.arn}/*"
    }]
  })
  # It can delete nothing: other remotes may use the same cache.
  write = jsonencode({
    Version = "2012-10-17"
    Statement = [local.list, {
      Sid      = "WriteCache"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
      Resource = "${aws_s3_bucket.cache.arn}/*"
    }]
  })
  # It writes its own notes alone, and deletes only files of the kinds that npcnix cache gc deletes.
  gc = jsonencode({
    Version = "2012-10-17"
    Statement = [local.list, {
      Sid      = "MarkCache"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = "${aws_s3_bucket.cache.arn}/*"
      }, {
      Sid      = "NoteSweep"
      Effect   = "Allow"
      Action   = ["s3:PutObject"]
      Resource = "${aws_s3_bucket.cache.arn}/npcnix/*"
      }, {
      Sid      = "SweepCache"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject"]
      Resource = [for names in ["*.narinfo", "*.ls", "nar/*", "npcnix/*"] : "${aws_s3_bucket.cache.arn}/${names}"]
    }]
  })
}

resource "aws_s3_bucket" "cache" {
  bucket        = var.name
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "cache" {
  bucket                  = aws_s3_bucket.cache.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Nothing expires by its age: an old path can be a part of a new system. npcnix cache gc deletes what nothing needs.
resource "aws_s3_bucket_lifecycle_configuration" "cache" {
  bucket = aws_s3_bucket.cache.id

  rule {
    id     = "uploads-cut-short"
    status = "Enabled"

    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_iam_policy" "read" {
  name        = local.read_name
  path        = var.path
  description = "Fetch systems from the binary cache ${var.name}"
  policy      = local.read
  tags        = var.tags
}

resource "aws_iam_policy" "write" {
  name        = local.write_name
  path        = var.path
  description = "Copy systems to the binary cache ${var.name}"
  policy      = local.write
  tags        = var.tags
}

resource "aws_iam_policy" "gc" {
  name        = local.gc_name
  path        = var.path
  description = "Delete what nothing needs from the binary cache ${var.name}"
  policy      = local.gc
  tags        = var.tags
}
