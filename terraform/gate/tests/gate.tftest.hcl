provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

variables {
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

run "ci_publishes_and_watches" {
  command = plan
  variables {
    tags = { team = "blue" }
  }

  assert {
    condition = jsondecode(aws_iam_policy.gate[0].policy).Statement == [
      {
        Sid      = "Publish"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:GetObject"]
        Resource = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix"
      },
      {
        Sid      = "ReadHistory"
        Effect   = "Allow"
        Action   = ["s3:GetObjectVersion"]
        Resource = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix"
      },
      {
        Sid       = "ListHistory"
        Effect    = "Allow"
        Action    = ["s3:ListBucketVersions"]
        Resource  = "arn:aws:s3:::my-fleet"
        Condition = { StringEquals = { "s3:prefix" = "npcnix/remotes/dev.npcnix" } }
      },
      {
        Sid      = "ReadRecords"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix.acks/*"
      },
      {
        Sid       = "ListRecords"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = "arn:aws:s3:::my-fleet"
        Condition = { StringLike = { "s3:prefix" = "npcnix/remotes/dev.npcnix.acks/*" } }
      },
      {
        Sid      = "ReadQueues"
        Effect   = "Allow"
        Action   = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags"]
        Resource = ["arn:aws:sqs:*:123456789012:npcnix-dev-*"]
      },
      {
        Sid      = "ReadSubscriptions"
        Effect   = "Allow"
        Action   = ["sns:ListSubscriptionsByTopic"]
        Resource = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      },
    ]
    error_message = "The policy allows more or less than that."
  }
  assert {
    condition     = output.policy_json == aws_iam_policy.gate[0].policy && aws_iam_policy.gate[0].name == "npcnix-gate-dev"
    error_message = "The policy's text is not given out, or its name is not npcnix-gate-<remote>."
  }
  assert {
    condition     = aws_iam_policy.gate[0].tags == tomap({ team = "blue", "npcnix:remote" = "s3://my-fleet/npcnix/remotes/dev.npcnix" })
    error_message = "The policy's tags are not the given ones and the remote's URL."
  }
}

run "ci_of_a_polled_remote_reads_no_queues_and_uses_the_key" {
  command = plan
  variables {
    name_prefix = "ci-"
    remote = {
      name        = "dev"
      filename    = "dev.npcnix"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region      = "eu-central-1"
      events      = false
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_policy.gate[0].policy).Statement : statement.Sid] == ["Publish", "ReadHistory", "ListHistory", "ReadRecords", "ListRecords", "UseStoreKey"]
    error_message = "The policy names queues or topics that there are not, or not the key."
  }
  assert {
    condition = jsondecode(aws_iam_policy.gate[0].policy).Statement[5] == {
      Sid      = "UseStoreKey"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
    error_message = "The key may be used for more or less than reading and writing objects."
  }
  assert {
    condition     = aws_iam_policy.gate[0].name == "ci-dev"
    error_message = "The given prefix of the name is not used."
  }
}

run "a_name_that_iam_does_not_take_is_refused" {
  command = plan
  variables {
    name_prefix = "ci/"
  }
  expect_failures = [var.name_prefix]
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
    condition     = aws_iam_policy.gate[0].path == "/npcnix/"
    error_message = "The policy is elsewhere."
  }
}

run "a_policy_that_is_used_inline_is_not_created" {
  command = plan
  variables {
    create = false
  }
  assert {
    condition     = length(aws_iam_policy.gate) == 0 && output.policy_arn == null && strcontains(output.policy_json, "s3:GetObject")
    error_message = "The policy is created, or its text is not output."
  }
}

run "ci_reads_queues_that_hosts_make_for_a_remote_with_a_long_name" {
  command = plan
  variables {
    remote = {
      name      = "europe.production.database-servers"
      filename  = "europe.production.database-servers.npcnix"
      bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key       = "npcnix/remotes/europe.production.database-servers.npcnix"
      url       = "s3://my-fleet/npcnix/remotes/europe.production.database-servers.npcnix"
      region    = "eu-central-1"
      events    = true
      topic_arn = "arn:aws:sns:eu-central-1:123456789012:topic"
    }
  }

  assert {
    condition = one([for statement in jsondecode(output.policy_json).Statement : statement.Resource if statement.Sid == "ReadQueues"]) == [
      "arn:aws:sqs:*:123456789012:npcnix-europe-production-database-servers-*",
      "arn:aws:sqs:*:123456789012:npcnix-europe-production-database-ser-*",
    ]
    error_message = "CI cannot read the queues of host_queue or those that hosts make, whose names have 30 characters of the remote's."
  }
}

run "gc_deletes_what_hosts_of_the_remote_left" {
  command = plan

  assert {
    condition = jsonencode([for statement in jsondecode(output.collect_policy_json).Statement : [statement.Action, statement.Resource]]) == jsonencode([
      [["s3:ListBucket"], "arn:aws:s3:::my-fleet"],
      [["s3:GetObject", "s3:DeleteObject"], "arn:aws:s3:::my-fleet/npcnix/remotes/dev.npcnix.acks/*"],
      [["sqs:ListQueues", "sns:Unsubscribe"], "*"],
      [["sqs:ListQueueTags", "sqs:GetQueueAttributes", "sqs:DeleteQueue"], "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-*"],
      [["sns:ListSubscriptionsByTopic"], var.remote.topic_arn],
    ])
    error_message = "The policy of npcnix hosts gc allows more or less than its work."
  }
}
