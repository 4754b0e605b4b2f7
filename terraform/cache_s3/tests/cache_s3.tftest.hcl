mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = {
      id     = "my-cache"
      arn    = "arn:aws:s3:::my-cache"
      region = "eu-central-1"
    }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/mock" }
  }
}

variables {
  name = "my-cache"
}

run "hosts_read_and_list" {
  command = apply

  assert {
    condition = jsondecode(aws_iam_policy.read.policy).Statement == [
      { Sid = "ListCache", Effect = "Allow", Action = ["s3:ListBucket", "s3:GetBucketLocation"], Resource = "arn:aws:s3:::my-cache" },
      { Sid = "ReadCache", Effect = "Allow", Action = ["s3:GetObject"], Resource = "arn:aws:s3:::my-cache/*" },
    ]
    error_message = "Hosts may do more or less than read and list."
  }
}

run "the_gate_writes_and_deletes_nothing" {
  command = apply

  assert {
    condition = jsondecode(aws_iam_policy.write.policy).Statement == [
      { Sid = "ListCache", Effect = "Allow", Action = ["s3:ListBucket", "s3:GetBucketLocation"], Resource = "arn:aws:s3:::my-cache" },
      { Sid = "WriteCache", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"], Resource = "arn:aws:s3:::my-cache/*" },
    ]
    error_message = "The gate may do more or less than write and read."
  }
}

run "the_sweep_deletes_paths_and_writes_notes" {
  command = apply

  assert {
    condition = jsondecode(aws_iam_policy.gc.policy).Statement == [
      { Sid = "ListCache", Effect = "Allow", Action = ["s3:ListBucket", "s3:GetBucketLocation"], Resource = "arn:aws:s3:::my-cache" },
      { Sid = "MarkCache", Effect = "Allow", Action = ["s3:GetObject"], Resource = "arn:aws:s3:::my-cache/*" },
      { Sid = "NoteSweep", Effect = "Allow", Action = ["s3:PutObject"], Resource = "arn:aws:s3:::my-cache/npcnix/*" },
      { Sid = "SweepCache", Effect = "Allow", Action = ["s3:DeleteObject"], Resource = ["arn:aws:s3:::my-cache/*.narinfo", "arn:aws:s3:::my-cache/*.ls", "arn:aws:s3:::my-cache/nar/*", "arn:aws:s3:::my-cache/npcnix/*"] },
    ]
    error_message = "The sweep may do more or less than read, note and delete paths."
  }
}

run "the_bucket_is_closed_and_keeps_what_it_has" {
  command = apply

  assert {
    condition     = aws_s3_bucket_public_access_block.cache.block_public_acls && aws_s3_bucket_public_access_block.cache.block_public_policy && aws_s3_bucket_public_access_block.cache.ignore_public_acls && aws_s3_bucket_public_access_block.cache.restrict_public_buckets
    error_message = "The public can be given access."
  }
  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.cache.rule : length(rule.expiration) + length(rule.noncurrent_version_expiration)] == [0] && aws_s3_bucket_lifecycle_configuration.cache.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 1
    error_message = "Paths expire, or uploads that were cut short stay."
  }
  assert {
    condition     = output.url == "s3://my-cache?region=eu-central-1"
    error_message = "The URL is ${output.url}."
  }
}

run "a_name_that_no_bucket_has_is_refused" {
  command = plan
  variables {
    name = "My_Cache"
  }
  expect_failures = [var.name]
}
