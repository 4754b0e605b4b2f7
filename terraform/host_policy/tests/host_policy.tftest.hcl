provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  host = "web1"
  remote = {
    name      = "dev"
    filename  = "dev.npcnix"
    bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
    key       = "npcnix/remotes/dev.npcnix"
    url       = "s3://my-fleet/npcnix/remotes/dev.npcnix"
    region    = "eu-central-1"
    events    = true
    topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
  }
}

run "a_polling_host_reads_its_remote_and_writes_its_record" {
  command = plan
  variables {
    tags = { team = "blue" }
    remote = {
      name     = "dev"
      filename = "dev.npcnix"
      bucket   = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key      = "npcnix/remotes/dev.npcnix"
      url      = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region   = "eu-central-1"
      events   = false
    }
  }

  assert {
    condition = jsondecode(aws_iam_policy.host[0].policy).Statement == [
      {
        Sid      = "FetchRemote"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix"
      },
      {
        Sid      = "WriteOwnRecord"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = [for folder in ["", "failed/", "recovered/"] : "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix.acks/${folder}web1.json"]
      },
    ]
    error_message = "The policy allows more or less than that."
  }
  assert {
    condition     = output.policy_json == aws_iam_policy.host[0].policy && aws_iam_policy.host[0].name == "npcnix-dev@web1-${substr(sha256("s3://my-fleet/npcnix/remotes/dev.npcnix/web1"), 0, 8)}"
    error_message = "The policy's text is not given out, or its name is not that of remote and host, with a hash of the URL and the host."
  }
  assert {
    condition     = aws_iam_policy.host[0].tags == tomap({ team = "blue", "npcnix:host" = "web1", "npcnix:remote" = "s3://my-fleet/npcnix/remotes/dev.npcnix" })
    error_message = "The policy's tags are not the given ones, the host and the remote's URL."
  }
}

run "a_host_with_a_queue_and_a_key_may_use_both" {
  command = plan
  variables {
    queue = { arn = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1" }
    remote = {
      name        = "dev"
      filename    = "dev.npcnix"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region      = "eu-central-1"
      events      = true
      topic_arn   = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
  }

  assert {
    condition = jsondecode(aws_iam_policy.host[0].policy).Statement == [
      {
        Sid      = "FetchRemote"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix"
      },
      {
        Sid      = "WriteOwnRecord"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = [for folder in ["", "failed/", "recovered/"] : "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix.acks/${folder}web1.json"]
      },
      {
        Sid      = "ReceiveFromOwnQueue"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
        Resource = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1"
      },
      {
        Sid      = "UseStoreKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = "arn:aws:kms:eu-central-1:123456789012:key/1"
      },
    ]
    error_message = "The policy allows more or less than that."
  }
}

run "a_name_that_a_policy_would_read_as_a_pattern_is_refused" {
  command = plan
  variables {
    host = "web*"
  }
  expect_failures = [var.host]
}

run "a_name_too_long_for_a_policy_is_refused" {
  command = plan
  variables {
    host = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }
  expect_failures = [var.host]
}

run "a_path_that_iam_does_not_accept_is_refused" {
  command = plan
  variables {
    path = "npcnix"
  }
  expect_failures = [var.path]
}

run "the_policy_has_the_given_path" {
  command = plan
  variables {
    path = "/npcnix/"
  }
  assert {
    condition     = aws_iam_policy.host[0].path == "/npcnix/"
    error_message = "The policy is elsewhere."
  }
}

run "a_policy_that_is_used_inline_is_not_created" {
  command = plan
  variables {
    create = false
  }
  assert {
    condition     = length(aws_iam_policy.host) == 0 && output.policy_arn == null && strcontains(output.policy_json, "s3:GetObject")
    error_message = "The policy is created, or its text is not output."
  }
}
